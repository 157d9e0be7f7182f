"""Passes as CUDA graphs: whether a pass can be captured, and how later runs reuse the capture."""
