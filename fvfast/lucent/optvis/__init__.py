"""Optimizes images for objectives: Lucent's ``optvis``."""

from fvfast.lucent.optvis import objectives as objectives
from fvfast.lucent.optvis import param as param
from fvfast.lucent.optvis import render as render
from fvfast.lucent.optvis import transform as transform
