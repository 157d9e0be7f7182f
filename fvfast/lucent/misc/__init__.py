"""Lucent's ``misc``: showing images in a notebook."""
