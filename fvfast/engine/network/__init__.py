"""Finds out about a user's network: its layers, shapes, types and channels."""
