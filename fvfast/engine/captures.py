"""What captures of CUDA graphs share in a process: their streams, and what a failed one leaves.

When CUDA aborts a capture, torch does not clean up completely and offers no way to do so. Before
2.12 the allocator believes that the capture goes on: ``torch.cuda.empty_cache()`` then always fails
an assertion, and the graph must stay alive because the allocator still asks it which memory it
owns. Later versions close the allocator's pool when ``capture_end`` fails, but not when
``capture_begin`` does.
"""

import contextlib
import gc
import threading
from collections.abc import Iterator

import torch

from fvfast.engine.locks import free_after_fork

CAPTURE_MODE = "thread_local"
"""In this mode CUDA forbids unsafe calls only to the thread that captures.

With "global", torch's default, it forbids them to all threads: another thread that allocates GPU
memory, as any may, would get an error and break the capture. Work on the stream of the capture is
recorded whichever thread it comes from, so autograd's backward pass is recorded too.
"""


class Captures:
    """The captures of a process, one at a time.

    Attributes
    ----------
    failure
        Why no more graphs are captured; empty as long as graphs can be captured.
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

        A device keeps its stream for the life of the process, because cuBLAS keeps a workspace for
        each stream it has seen. A pass on this stream before the capture sets such things up in
        ordinary memory, not in that of a graph.
        """
        with self._lock:  # the work of another thread on this stream would be captured, too
            if device not in self._streams:
                self._streams[device] = torch.cuda.Stream(device)
            with torch.cuda.device(device), torch.cuda.stream(self._streams[device]):
                yield

    @contextlib.contextmanager
    def capturing(self, graph: torch.cuda.CUDAGraph, device: torch.device) -> Iterator[None]:
        """Capture what a ``with`` block does on a device, then return to the stream in use before.

        Raises
        ------
        RuntimeError
            CUDA aborted the capture; or an earlier capture failed, and this one was not tried.
        """
        with self._lock:
            if self.failure:
                raise RuntimeError(self.failure)
            # As torch.cuda.graph does: a graph gets its memory from outside torch's cache.
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
        """Return torch's cached memory to the GPU, unless a failed capture made that impossible."""
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
    """Register a copy of the default generator's state, not the state itself, with a capture.

    A state that is registered with a capture cannot draw outside of it. Before torch 2.13 that
    stays so for ever if the capture fails.
    """
    generator = torch.cuda.default_generators[device.index]
    state = generator.graphsafe_get_state()
    generator.graphsafe_set_state(generator.clone_state())
    try:
        yield
    finally:
        generator.graphsafe_set_state(state)


CAPTURES = Captures()
"""The captures of this process."""
