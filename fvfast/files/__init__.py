"""Reads files of any content within limits of memory; writes files completely or not at all."""
