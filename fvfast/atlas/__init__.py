"""Thousands of units: their pictures, and the photographs that excite them."""
