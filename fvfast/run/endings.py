"""Images whose run ends early because a number is not finite, and what they were before."""

from collections import deque
from collections.abc import Callable

import torch

from fvfast._shared.messages import warn_user


class Looks:
    """Looks of the host at numbers of a device: at once, or some steps later.

    A look at once makes the host wait for the device, which then waits for the host's next work.
    A look at a step that is over makes neither wait.

    Parameters
    ----------
    lag
        How many steps later. 0: at once.
    """

    def __init__(self, lag: int) -> None:
        self.lag = lag
        self._waiting: deque[
            tuple[int, torch.Tensor, torch.cuda.Event | None, Callable[[torch.Tensor], None]]
        ] = deque()

    def at(self, step: int, numbers: torch.Tensor, then: Callable[[torch.Tensor], None]) -> None:
        """Call a function with the numbers of a step, on the CPU."""
        if self.lag == 0:
            then(numbers.cpu())
            return
        copied = None
        on_host = numbers.to("cpu", non_blocking=True, copy=True)
        if numbers.is_cuda:
            copied = torch.cuda.Event()
            copied.record(torch.cuda.current_stream(numbers.device))
        self._waiting.append((step, on_host, copied, then))

    def after(self, step: int) -> None:
        """Look at the numbers whose time has come when a step has been taken."""
        while self._waiting and self._waiting[0][0] <= step - self.lag:
            self._look()

    def catch_up(self) -> None:
        """Look at all that is left."""
        while self._waiting:
            self._look()

    def _look(self) -> None:
        _, numbers, copied, then = self._waiting.popleft()
        if copied is not None:
            copied.synchronize()
        then(numbers)


class Endings:
    """Keeps images that have ended as they were after their last good step.

    Parameters
    ----------
    state
        What is optimized (N, ...).
    names
        Names of the N images, for messages.
    transparency
        (N, C, H, W), which grows with each step; or None.
    looks
        Says when the host looks for images that have ended. Until it has, the device keeps the last
        good states, and those that are optimized are put back when it has.

    Attributes
    ----------
    running
        (N,): the images that have not ended.
    ended_at
        The first step that no image takes, if the host knows of one.
    are_news
        Whether an image has ended since this was set to False.
    """

    def __init__(
        self,
        state: torch.Tensor,
        names: list[str],
        transparency: torch.Tensor | None,
        looks: Looks,
    ) -> None:
        self.running = torch.ones(len(names), dtype=torch.bool, device=state.device)
        self.ended_at: int | None = None
        self.are_news = False
        self._state = state
        self._last_good = state.detach().clone()
        self._names = names
        self._transparency = transparency
        self._final_transparency: torch.Tensor | None = None
        self._looks = looks
        # All run at first. If the host knows at once when that changes, it can do without passes
        # over all images that keep some of them as they are.
        self._some_have = False
        self._some_may_have = looks.lag > 0

    def begin_step(self) -> None:
        """Take over the transparency, to which this step has been added."""
        if self._transparency is None or not self._some_may_have:
            return
        if self._final_transparency is None:
            self._final_transparency = self._transparency.clone()
        else:
            running = _along(self._transparency, self.running)
            torch.where(
                running, self._transparency, self._final_transparency, out=self._final_transparency
            )

    def check_scores(self, step: int, finite: torch.Tensor) -> None:
        """End the images whose scores or gradients (N,) are not finite."""
        self._end(step, finite, "the score or its gradient", step)

    def keep(self) -> None:
        """Call the present state of the images good."""
        state = self._state.detach()
        if self._some_may_have:
            running = _along(state, self.running)
            torch.where(running, state, self._last_good, out=self._last_good)
        else:
            self._last_good.copy_(state)

    def gradient_of_running(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return a gradient that is 0 for images that have ended: an optimizer may mix images."""
        if not self._some_may_have:
            return gradient
        return gradient.where(_along(gradient, self.running), 0)

    def check_update(self, step: int, finite: torch.Tensor) -> None:
        """End the images whose state (N,) is not finite after an update."""
        self._end(step, finite, "the image after its update", step + 1)
        self.put_back()  # momentum, too, moves images

    @property
    def transparency(self) -> torch.Tensor | None:
        """The transparencies of all images, each until its end."""
        return self._transparency if self._final_transparency is None else self._final_transparency

    def _end(self, step: int, finite: torch.Tensor, what: str, next_step: int) -> None:
        failed = self.running & ~finite
        self.running = self.running & finite

        def look(flags: torch.Tensor) -> None:
            if bool(flags[0].any()):
                self._have_ended(step, flags[0], what)
            if self.ended_at is None and not bool(flags[1].any()):
                self.ended_at = next_step

        self._looks.at(step, torch.stack((failed, self.running)), look)

    def put_back(self) -> None:
        """Set images that are known to have ended to their last good state.

        Not between `Parametrization.image` and the update, which may need the state as it was.
        """
        if not self._some_have:
            return
        with torch.no_grad():
            running = _along(self._state, self.running)
            self._state.copy_(torch.where(running, self._state, self._last_good))

    def _have_ended(self, step: int, failed: torch.Tensor, what: str) -> None:
        self.are_news = self._some_have = True
        if not self._some_may_have:
            self._some_may_have = True
            self.begin_step()
        names = [self._names[index] for index in failed.nonzero().flatten().tolist()]
        warn_user(
            f"step {step}: {what} is not finite for {', '.join(names)}; the last finite image is "
            "kept. Check the model's output, values_range and the learning rate.",
            RuntimeWarning,
        )


def are_finite(totals: torch.Tensor) -> torch.Tensor:
    """Say which numbers are finite, in fewer launches than `torch.isfinite`."""
    return totals * 0 == 0


def _along(values: torch.Tensor, flags: torch.Tensor) -> torch.Tensor:
    """Reshape one flag per image (N,) so that it fits values (N, ...)."""
    return flags.view(-1, *[1] * (values.ndim - 1))
