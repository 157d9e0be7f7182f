"""Fast, faithful feature visualization for PyTorch: MaCo and Fourier feature visualization.

>>> from fvfast import Objective, maco
>>> from fvfast.plot import plot_maco
>>> image, transparency = maco(Objective.neuron(model, "fc", 504))  # doctest: +SKIP
>>> plot_maco(image, transparency)  # doctest: +SKIP
"""

# The second line gets the console command ready before imports that take long.
from fvfast._shared.version import VERSION
from fvfast.cli import startup as startup

# isort: split
from fvfast.accentuate import accentuate
from fvfast.maco import MacoBatch, maco, maco_batch
from fvfast.objectives import Objective
from fvfast.objectives.guides import Guide
from fvfast.optimize import optimize
from fvfast.run.schedules import Geometric, Linear
from fvfast.spectrum import Spectrum

__version__ = VERSION

__all__ = [
    "Geometric",
    "Guide",
    "Linear",
    "MacoBatch",
    "Objective",
    "Spectrum",
    "accentuate",
    "maco",
    "maco_batch",
    "optimize",
]
