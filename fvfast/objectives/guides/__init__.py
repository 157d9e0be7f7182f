"""Guides: pictures that are drawn towards the look of photographs or of a network's own data."""

from fvfast.objectives.guides.guide import Guide

__all__ = ["Guide"]
