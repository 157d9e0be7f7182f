"""Describes the work that every contestant has to do."""

import dataclasses
import json

NETWORKS = ("identity", "mobilenet_v2", "resnet50")


@dataclasses.dataclass(frozen=True)
class Scene:
    """The settings of a run.

    The box size is the same in every step, unlike in the libraries' default schedules, so that
    every step takes the same time.

    Attributes
    ----------
    network
        One of `NETWORKS`. "identity" returns the crops, and the objective is the mean of their
        squares: this times the library alone. The others have random weights, and the objective is
        one logit.
    image_size
        Height and width of the optimized image.
    model_size
        Height and width of the network's input.
    threads
        Number of threads of the library's framework.
    """

    network: str = "identity"
    image_size: int = 512
    model_size: int = 224
    crops: int = 32
    box_size: float = 0.3
    noise: float = 0.08
    values_range: tuple[float, float] = (-1.0, 1.0)
    threads: int = 2

    @property
    def crop_bytes(self) -> int:
        """Bytes of the crops of one step in float32; their gradients take as many."""
        return 4 * 3 * self.crops * self.model_size**2

    def to_json(self) -> str:
        """Describe the scene in one line, for `from_json`."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(line: str) -> "Scene":
        """Read what `to_json` wrote."""
        fields = json.loads(line)
        return Scene(**{**fields, "values_range": tuple(fields["values_range"])})
