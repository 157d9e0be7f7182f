"""Optimizes images for objectives: Lucent's ``optvis``."""
