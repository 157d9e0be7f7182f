"""What is maximized: objectives, the scores that they weigh, and the units that users name."""

from fvfast.objectives.objective import Objective

__all__ = ["Objective"]
