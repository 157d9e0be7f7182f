"""Shows images in a notebook."""

from fvfast.lucent.optvis.display import show as show
