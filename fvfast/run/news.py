"""What a run has to tell about images that have ended, or that have no gradient."""

from collections import defaultdict

from fvfast._shared.messages import warn_user
from fvfast.run.step_record import PATIENCE_WITHOUT_GRADIENT, RUNS, Seen


class News:
    """Warns once of each thing, in the order of the steps.

    Parameters
    ----------
    names
        Of the N images.
    nb_steps
        Of the run.
    """

    def __init__(self, names: list[str], nb_steps: int) -> None:
        self._names = names
        self._last_patient = min(PATIENCE_WITHOUT_GRADIENT, nb_steps) - 1
        self._told: set[int] = set()
        self._has_told_of_gradients = False

    def tell(self, seen: Seen) -> bool:
        """Warn of what is new in a record; return whether an image has ended.

        Warns
        -----
        RuntimeWarning
            For each step, of the images whose numbers were not finite; and of those that had no
            gradient in the first steps.
        """
        ended: dict[tuple[int, bool], list[str]] = defaultdict(list)
        for index, step in enumerate(seen.ended_in):
            if step != RUNS and index not in self._told:
                self._told.add(index)
                ended[step, seen.by_update[index]].append(self._names[index])
        without = self._without_gradient(seen)
        if without:
            # After the scores of that step, and before its update.
            ended[self._last_patient, False] += []
        for step, by_update in sorted(ended):
            if names := ended[step, by_update]:
                _warn_of_ending(step, names, by_update=by_update)
            if without and (step, by_update) == (self._last_patient, False):
                self._warn_without_gradient(without)
        return any(ended.values())

    def _without_gradient(self, seen: Seen) -> list[str]:
        """Return the images without a gradient that ran until the run's patience ended."""
        last = self._last_patient
        if self._has_told_of_gradients or seen.steps <= last:
            return []
        self._has_told_of_gradients = True
        return [
            name
            for name, has, step, by_update in zip(
                self._names, seen.has_gradient, seen.ended_in, seen.by_update, strict=True
            )
            if not has and (step == RUNS or step > last or (step == last and by_update))
        ]

    def _warn_without_gradient(self, names: list[str]) -> None:
        warn_user(
            f"the gradient was zero in each of the first {self._last_patient + 1} steps for "
            f"{', '.join(names)}: the unit is dead on these images, or values_range is not "
            "the range that the model expects. (optimize(warmup_steps=...) can wake units "
            "behind a ReLU.)",
            RuntimeWarning,
        )


def _warn_of_ending(step: int, names: list[str], *, by_update: bool) -> None:
    what = "the image after its update" if by_update else "the score or its gradient"
    warn_user(
        f"step {step}: {what} is not finite for {', '.join(names)}; the last finite image is "
        "kept. Check the model's output, values_range and the learning rate.",
        RuntimeWarning,
    )
