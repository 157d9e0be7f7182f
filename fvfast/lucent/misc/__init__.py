"""Lucent's ``misc``: images in a notebook, and groups of channels."""
