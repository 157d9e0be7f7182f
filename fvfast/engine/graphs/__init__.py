"""Passes as CUDA graphs: whether one can be captured, and what repeats of it are told."""
