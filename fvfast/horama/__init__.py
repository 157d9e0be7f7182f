"""Horama's calls: change ``from horama import maco`` to ``from fvfast.horama import maco``.

Signatures, defaults and numbers are those of Horama 0.3; docs/horama.md says what is different.
"""

from fvfast.horama.feature_accentuation import accentuation
from fvfast.horama.fourier_fv import fourier
from fvfast.horama.losses import dot_cossim
from fvfast.horama.maco_fv import maco
from fvfast.horama.plots import plot_maco

__all__ = ["accentuation", "dot_cossim", "fourier", "maco", "plot_maco"]
