"""Forms in which a network runs faster: joined operations, another memory format or type."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from fvfast.engine.borrowing.threads import replaced_tensors
from fvfast.engine.rewrite.epilogues import Epilogue
from fvfast.engine.rewrite.frozen_convolution import FrozenConvolution
from fvfast.engine.rewrite.joining import Note, Rewriting, freeze
from fvfast.engine.rewrite.recording import Convolution

_IMAGE_DIMENSIONS = 4  # of tensors that have a memory format


@dataclasses.dataclass(frozen=True)
class Form:
    """What is changed about how a network runs, during a run.

    Attributes
    ----------
    joined
        Convolutions also do the work of the batch normalizations and ReLUs after them, and compute
        no gradient of their weights.
    sums
        Joined convolutions also take over the sum at the end of a residual branch.
    channels_last
        Images and joined convolutions keep the channels of a pixel next to each other in memory.
    dtype
        Type of the parameters and of the images; None: the network's own.
    autocast
        The parameters keep their type, and torch's autocast runs suitable operations in ``dtype``.
    """

    joined: bool = False
    sums: bool = False
    channels_last: bool = False
    dtype: torch.dtype | None = None
    autocast: bool = False

    def __str__(self) -> str:
        dtype = "" if self.dtype is None else str(self.dtype).removeprefix("torch.")
        parts = (
            "joined convolutions" if self.joined else "",
            "with sums" if self.sums else "",
            "channels last" if self.channels_last else "",
            f"{dtype} by autocast" if self.autocast else dtype,
        )
        return ", ".join(filter(None, parts)) or "as it is"

    def feed(self, images: torch.Tensor) -> torch.Tensor:
        """Bring images (B, C, H, W) into the memory format."""
        if self.channels_last and images.ndim == _IMAGE_DIMENSIONS:
            return images.contiguous(memory_format=torch.channels_last)
        return images


class Running:
    """A network's weights in a form, for one or several runs; `installed` makes the network use it.

    The network's own tensors are not changed, and nothing here refers to the network itself.

    Parameters
    ----------
    model
        The network, frozen and in evaluation mode; None when only the images are read.
    form
        The form.
    convolutions
        What `fvfast.engine.rewrite.recording.record_convolutions` found in the network.
    epilogues
        How each of them does on a GPU what follows it; empty: as torch's own calls do.
    """

    def __init__(
        self,
        model: nn.Module | None,
        form: Form,
        convolutions: Sequence[Convolution],
        epilogues: Sequence[Epilogue | None] = (),
    ) -> None:
        self.form = form
        # By the id of the network's own tensors, which several modules may share.
        self._cast = _cast_tensors(model, form)
        weights = [self._cast.get(id(entry.weight), entry.weight) for entry in convolutions]
        # With the id of the weight that the network uses while the form is installed.
        self._convolutions = [
            (id(weight), entry) for weight, entry in zip(weights, convolutions, strict=True)
        ]
        self._rewritings: dict[bool, Rewriting] = {}
        self.use_epilogues(epilogues)

    def use_epilogues(self, epilogues: Sequence[Epilogue | None]) -> None:
        """Let convolutions do on a GPU what follows them in these ways, from now on."""
        self._epilogues = list(epilogues) or [None] * len(self._convolutions)
        self._rewritings.clear()

    @property
    def joined_convolutions(self) -> list[FrozenConvolution]:
        """The convolutions as they run, in their order."""
        return list(self._rewriting(join_activations=True).convolutions.values())

    @contextlib.contextmanager
    def noting(self, note: Note) -> Iterator[None]:
        """Call a function with each joined convolution that runs, during a ``with`` statement."""
        rewriting = self._rewriting(join_activations=True)
        rewriting.note = note
        try:
            yield
        finally:
            rewriting.note = None

    @contextlib.contextmanager
    def installed(self, model: nn.Module | None) -> Iterator[None]:
        """Put the network into the form, in this thread, during a ``with`` statement."""
        with contextlib.ExitStack() as stack:
            if model is not None and self._cast:
                for module in model.modules():
                    stack.enter_context(replaced_tensors(module, self._cast))
            yield

    @contextlib.contextmanager
    def context(
        self, device: torch.device, *, join_activations: bool = True, joins: bool = True
    ) -> Iterator[None]:
        """Return the context in which to call the network.

        Parameters
        ----------
        device
            Where the network runs.
        join_activations
            False runs ReLUs on their own, so that a caller can replace them.
        joins
            False joins nothing: the network as it is, in the type of the form.
        """
        with contextlib.ExitStack() as stack:
            if self.form.autocast:
                stack.enter_context(
                    torch.autocast(device.type, dtype=self.form.dtype, cache_enabled=False)
                )
            if self.form.joined and joins:
                stack.enter_context(self._rewriting(join_activations))
            yield

    def _rewriting(self, join_activations: bool) -> Rewriting:
        if join_activations not in self._rewritings:
            self._rewritings[join_activations] = Rewriting(
                {
                    weight: freeze(
                        convolution,
                        dtype=self.form.dtype,
                        channels_last=self.form.channels_last,
                        join_sum=self.form.sums,
                        join_activation=join_activations,
                        epilogue=epilogue,
                    )
                    for (weight, convolution), epilogue in zip(
                        self._convolutions, self._epilogues, strict=True
                    )
                }
            )
        return self._rewritings[join_activations]


@contextlib.contextmanager
def in_form(
    model: nn.Module | None, form: Form, convolutions: Sequence[Convolution]
) -> Iterator[Running]:
    """Put a network into a form during a ``with`` statement.

    Parameters
    ----------
    model, form, convolutions
        See `Running`.
    """
    running = Running(model, form, convolutions)
    with running.installed(model):
        yield running


def _cast_tensors(model: nn.Module | None, form: Form) -> dict[int, torch.Tensor]:
    """Copy a network's floating-point tensors into the type of a form; by the originals' ids."""
    cast: dict[int, torch.Tensor] = {}
    if model is None or form.dtype is None or form.autocast:
        return cast
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and tensor.dtype != form.dtype:
            copy = tensor.detach().to(form.dtype)
            is_parameter = isinstance(tensor, nn.Parameter)
            cast[id(tensor)] = nn.Parameter(copy, requires_grad=False) if is_parameter else copy
    return cast
