"""A stand-in for torch's CUDA, on the CPU, that fails in the ways torch does.

It has everything that captures use: streams, the allocator's pools, the default generator, and the
mode in which waiting is an error. Its kernels are Python functions. A graph keeps them, and the
addresses of their inputs and outputs.
"""

import contextlib
import weakref

import pytest
import torch

from fvfast.engine.captures import CAPTURES

GPU = torch.device("cuda", 0)
ERROR = 2  # the mode of torch.cuda.set_sync_debug_mode


class Stream:
    def __init__(self, device=None):
        self.device = device
        self.waited_for = []

    def wait_stream(self, other):
        self.waited_for.append(other)


class RandomState:
    def __init__(self, offset=0):
        self.offset = offset
        self.capturing = False


class Generator:
    """Of one device; its state belongs to the capture that began with it."""

    def __init__(self):
        self.state = RandomState()

    def get_state(self):
        return torch.tensor(self.state.offset)

    def set_state(self, state):
        self.state.offset = int(state)

    def manual_seed(self, _seed):
        self.state.offset = 0

    def graphsafe_get_state(self):
        return self.state

    def clone_state(self):
        return RandomState(self.state.offset)

    def graphsafe_set_state(self, state):
        self.state = state


class CudaStandIn:
    """The state of CUDA and of torch.

    Parameters
    ----------
    version
        Of torch: (2, 11) leaves the allocator's pool open where ``capture_end`` fails, (2, 14)
        closes it. Both stay on the stream and keep the random state, unless they are told.
    """

    def __init__(self, version):
        self.version = version
        self.default_stream = self.stream = Stream(GPU)
        self.generator = Generator()
        self.sync_mode = 0
        self.modes = []  # of each kernel
        self.graph = None  # that is being captured
        self.open_pools = 0
        self.graphs = []  # weak references to all whose capture began
        self.emptied = 0  # times the allocator's cache was
        self.begin_fails = self.replay_fails = False

    @contextlib.contextmanager
    def installed(self):
        """Put it in the place of torch's."""
        gpu = self

        class Graph(CudaGraph):
            def __init__(self):
                super().__init__(gpu)

        cuda = {
            "CUDAGraph": Graph,
            "Stream": Stream,
            "current_stream": lambda _device=None: self.stream,
            "stream": self.on_stream,
            "device": lambda _device: contextlib.nullcontext(),
            "synchronize": self.synchronize,
            "empty_cache": self.empty_cache,
            "default_generators": (self.generator,),
            "get_sync_debug_mode": lambda: self.sync_mode,
            "set_sync_debug_mode": self.set_sync_mode,
            "is_current_stream_capturing": lambda: self.graph is not None,
        }
        with pytest.MonkeyPatch.context() as patch, CAPTURES.as_in_a_new_process():
            for name, value in cuda.items():
                patch.setattr(torch.cuda, name, value)
            # The processor's tensors pass for those of a GPU.
            patch.setattr(torch.Tensor, "device", property(lambda _tensor: GPU))
            patch.setattr(torch.Tensor, "record_stream", lambda _tensor, _stream: None)
            yield

    @contextlib.contextmanager
    def on_stream(self, stream):
        before, self.stream = self.stream, stream
        try:
            yield
        finally:
            self.stream = before

    def set_sync_mode(self, mode):
        self.sync_mode = {"default": 0, "warn": 1, "error": ERROR}.get(mode, mode)

    def synchronize(self, _device=None):
        assert self.graph is None, "operation not permitted when stream is capturing"

    def empty_cache(self):
        if self.open_pools:
            raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")
        self.emptied += 1

    # What kernels and networks do.

    def launch(self, compute, views):
        """Compute (scores, gradient) of views now, and in each replay."""
        self.modes.append(self.sync_mode)
        results = compute(views)
        if self.graph is not None:
            self.graph.kernels.append((compute, views, results))
        return results

    def wait(self, *, seen=True):
        """Read a number from the GPU, in a way that torch sees or not."""
        if seen and self.sync_mode == ERROR:
            raise RuntimeError("called a synchronizing CUDA operation")
        if self.graph is not None:
            self.graph.broken = True
            raise RuntimeError("operation not permitted when stream is capturing")

    def draw(self):
        """Draw a random number."""
        if self.generator.state.capturing:
            raise RuntimeError("Offset increment outside graph capture encountered unexpectedly.")
        self.generator.state.offset += 4


class CudaGraph:
    def __init__(self, gpu):
        self.gpu = gpu
        self.kernels = []
        self.broken = False

    def capture_begin(self, pool=None, capture_error_mode="global"):
        del pool
        gpu = self.gpu
        assert gpu.stream is not gpu.default_stream, "must be captured on a non-default stream"
        gpu.graphs.append(weakref.ref(self))
        gpu.mode = capture_error_mode
        self.state = gpu.generator.state
        self.state.capturing = True
        gpu.open_pools += 1
        if gpu.begin_fails:
            raise RuntimeError("CUDA error: cudaStreamBeginCapture")
        gpu.graph = self

    def capture_end(self):
        gpu = self.gpu
        assert gpu.graph is self
        gpu.graph = None
        if self.broken and gpu.version < (2, 12):
            raise RuntimeError("operation failed due to a previous error during capture")
        gpu.open_pools -= 1
        if self.broken:
            raise RuntimeError("operation failed due to a previous error during capture")
        self.state.capturing = False

    def replay(self):
        if self.gpu.replay_fails:
            raise RuntimeError("Offset increment outside graph capture encountered unexpectedly.")
        for compute, views, results in self.kernels:
            for to, result in zip(results, compute(views), strict=True):
                to.copy_(result)
