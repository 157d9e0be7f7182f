"""What captures of CUDA graphs share in a process: their streams, and what a failed one leaves.

A capture that CUDA breaks off leaves the process worse than it was, and torch offers no way back.
Before 2.12 the allocator believes that the capture goes on: ``torch.cuda.empty_cache()`` fails an
assertion ever after, and the allocator asks the graph which memory is its own, so that the graph
must not go away either. Later versions close the allocator's pool where ``capture_end`` fails, but
not where ``capture_begin`` does.
"""

import contextlib
import gc
import threading
from collections.abc import Iterator

import torch

from fvfast.engine.locks import free_after_fork

CAPTURE_MODE = "thread_local"
"""What CUDA forbids during a capture, it forbids in the thread that captures.

With "global", torch's default, it forbids that in all threads: one that allocates memory of a GPU,
as any thread may, would get the error and would break the capture as well. Work for the stream of
the capture is recorded from whichever thread it comes, so autograd's backward pass is too.
"""


class Captures:
    """The captures of a process, one at a time.

    Attributes
    ----------
    failure
        Why no more graphs are captured; empty while they are.
    """

    def __init__(self) -> None:
        self.failure = ""
        self._lock = threading.RLock()
        free_after_fork(self)
        self._streams: dict[torch.device, torch.cuda.Stream] = {}
        self._failed: list[torch.cuda.CUDAGraph] = []

    @contextlib.contextmanager
    def on_stream(self, device: torch.device) -> Iterator[None]:
        """Run a ``with`` block on the stream on which passes of a device are captured.

        One stream for good: cuBLAS keeps a workspace for each that it has seen. What a pass sets up
        for its stream is so set up, in ordinary memory, before a capture can put it into a graph's.
        """
        with self._lock:  # what another thread did there would be captured with the rest
            if device not in self._streams:
                self._streams[device] = torch.cuda.Stream(device)
            with torch.cuda.device(device), torch.cuda.stream(self._streams[device]):
                yield

    @contextlib.contextmanager
    def capturing(self, graph: torch.cuda.CUDAGraph, device: torch.device) -> Iterator[None]:
        """Capture what a ``with`` block does on a device, and go back to the stream before.

        Raises
        ------
        RuntimeError
            CUDA broke the capture off, or a capture before did, and this one was not tried.
        """
        with self._lock:
            if self.failure:
                raise RuntimeError(self.failure)
            # As torch.cuda.graph does: a graph's memory comes from what is free outside the cache.
            gc.collect()
            torch.cuda.synchronize(device)
            torch.cuda.empty_cache()
            with self.on_stream(device):
                with self._the_last_where_it_fails(graph), _random_state_of_its_own(device):
                    graph.capture_begin(capture_error_mode=CAPTURE_MODE)
                try:
                    yield
                finally:
                    with self._the_last_where_it_fails(graph):
                        graph.capture_end()

    def empty_cache(self) -> None:
        """Give the memory that torch keeps for later back to the GPU, where torch still can."""
        with self._lock:  # not while another thread captures
            if not self.failure:
                torch.cuda.empty_cache()

    @contextlib.contextmanager
    def as_in_a_new_process(self) -> Iterator[None]:
        """Forget streams and failures for the length of a ``with`` block, for who plays a GPU."""
        before = self.failure, self._streams
        self.failure, self._streams = "", {}
        try:
            yield
        finally:
            self.failure, self._streams = before

    @contextlib.contextmanager
    def _the_last_where_it_fails(self, graph: torch.cuda.CUDAGraph) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            self.failure = f"the capture of a CUDA graph failed in this process: {error}"
            self._failed.append(graph)
            raise


@contextlib.contextmanager
def _random_state_of_its_own(device: torch.device) -> Iterator[None]:
    """Give a capture that begins a copy of the default generator's state.

    A state that belongs to a capture draws nothing outside it, and before torch 2.13 never again
    when the capture fails.
    """
    generator = torch.cuda.default_generators[device.index]
    state = generator.graphsafe_get_state()
    generator.graphsafe_set_state(generator.clone_state())
    try:
        yield
    finally:
        generator.graphsafe_set_state(state)


CAPTURES = Captures()
"""Those of this process."""
