"""Atlas: pictures of thousands of units of a network, on one machine or many.

>>> from fvfast import atlas
>>> plan = atlas.make_plan("efficientnet_lite0", ["_blocks.4"])  # doctest: +SKIP
>>> atlas.draw_atlas(plan, atlas.Place("atlas"))  # doctest: +SKIP
"""

from fvfast.atlas.drawing import draw_atlas
from fvfast.atlas.executors.base import Executor, WorkersFailedError
from fvfast.atlas.executors.here import Here
from fvfast.atlas.executors.processes import Processes
from fvfast.atlas.executors.ray_actors import RayActors
from fvfast.atlas.failures import BrokenDeviceError, NotEnoughMemoryError
from fvfast.atlas.fields import WrongFileError
from fvfast.atlas.networks import OtherNetworkError
from fvfast.atlas.patience import PlaceLostError
from fvfast.atlas.places import Place
from fvfast.atlas.plan import Plan
from fvfast.atlas.planning import LayerUnits, make_plan
from fvfast.atlas.progress import begin, read_plan, read_status
from fvfast.atlas.shards import run_shard
from fvfast.atlas.verification import verify
from fvfast.atlas.worker import Worker

__all__ = [
    "BrokenDeviceError",
    "Executor",
    "Here",
    "LayerUnits",
    "NotEnoughMemoryError",
    "OtherNetworkError",
    "Place",
    "PlaceLostError",
    "Plan",
    "Processes",
    "RayActors",
    "Worker",
    "WorkersFailedError",
    "WrongFileError",
    "begin",
    "draw_atlas",
    "make_plan",
    "read_plan",
    "read_status",
    "run_shard",
    "verify",
]
