"""Networks that are compiled for a run: the same results, and nothing is left.

Most tests have a stand-in for the compiler that runs the recorded graphs as they are.
"""

import contextlib
import gc
import signal
import threading
import warnings
import weakref

import pytest
import torch
from engine.compiled_networks import INPUT, SHORT, Swish, close, drawn, neuron, plain
from engine.compiler_stand_in import StandIn
from engine.recorded_steps import StepRecorder
from injected_runs import graphs_by, maco_with
from misbehaving import everything, global_state
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

import fvfast.engine
from fvfast import Objective
from fvfast.engine.compiled.inductor import inductor
from fvfast.engine.rewrite.kept_forms import FormStore
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.run import Run


@pytest.fixture(autouse=True)
def nothing_kept():
    fvfast.engine.clear()
    yield
    fvfast.engine.clear()


@pytest.mark.parametrize("layer", ["", "stem", "norm"])
def test_the_recorded_network_draws_the_same(layer):
    model, compiler = Swish(), StandIn()
    objective = Objective.layer(model, layer, input_shape=INPUT)
    if layer == "norm":  # whose mean is zero
        objective = neuron(model, layer=layer)
    image = maco_with(compiler.store(), objective, **SHORT, compile=True)
    assert compiler.graphs == 2
    assert compiler.calls > 2 * 2  # of the last steps, forward and back
    assert close(image, maco_with(FormStore(), objective, **SHORT))


@pytest.mark.thorough
def test_several_layers_at_once():
    model, compiler = Swish(), StandIn()
    objective = neuron(model) + Objective.channel(model, "stem", 2, input_shape=INPUT)
    objective += Objective.channel(model, "stem.2", 3, input_shape=INPUT)  # the same tensor
    image = maco_with(compiler.store(), objective, **SHORT, compile=True)
    assert compiler.calls
    assert close(image, maco_with(FormStore(), objective, **SHORT))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_types(precision):
    model, compiler = Swish(), StandIn()
    image = drawn(model, compiler.store(), precision=precision)
    assert compiler.calls
    rounded, exact = plain(model, precision=precision), plain(model)
    # Rounded in other places, but not more often.
    assert (image - rounded).norm() < 2 * (rounded - exact).norm()


def test_a_network_of_joined_convolutions(network):
    """It is recorded as it is, not in the form that joins them, and compared with both."""
    compiler = StandIn()
    image = drawn(network, compiler.store(), layer="7")
    assert compiler.calls
    assert close(image, plain(network, layer="7"))


def test_constants_are_computed_once():
    """Of a batch normalization with constants alone, nothing but sums and products is left."""
    operations = []

    class Noting(StandIn):
        def __call__(self, graph, examples):
            operations.extend(str(node.target) for node in graph.graph.nodes)
            return super().__call__(graph, examples)

    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval()
    drawn(model, Noting().store(), layer="1")
    assert "aten.convolution.default" in operations
    assert not [name for name in operations if "sqrt" in name]


def test_the_network_and_torch_are_as_before():
    model, compiler = Swish(), StandIn()
    drawn(model, compiler.store())  # what is imported draws from generators
    before, state = everything(model), global_state()
    methods = nn.Module.__call__, nn.Module.__getattr__
    settings = torch._inductor.config.save_config_portable()
    drawn(model, compiler.store())
    assert compiler.graphs == 4
    assert everything(model) == before
    assert global_state() == state
    assert (nn.Module.__call__, nn.Module.__getattr__) == methods
    assert torch._inductor.config.save_config_portable() == settings
    assert not any("_orig_mod" in name for name, _ in model.named_modules())
    assert "forward" not in model.__dict__
    assert not torch.utils._python_dispatch._get_current_dispatch_mode_stack()


@pytest.mark.thorough
def test_two_threads_at_once():
    models = [Swish(), Swish()]
    compilers = [StandIn(), StandIn()]  # each with a clock, which the other's passes do not move
    results = {}

    def draw(index):
        results[index] = drawn(models[index], compilers[index].store(), unit=index)

    threads = [threading.Thread(target=draw, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(close(results[index], plain(models[index], index)) for index in (0, 1))


def test_other_threads_may_call_the_network_meanwhile():
    model = Swish()
    views = torch.randn(2, *INPUT)
    expected, seen = model(views), []

    class Beside(StandIn):
        def __call__(self, graph, examples):
            thread = threading.Thread(target=lambda: seen.append(model(views)))
            thread.start()
            thread.join()
            return super().__call__(graph, examples)

    drawn(model, Beside().store())
    assert len(seen) == 2
    assert all(torch.equal(one, expected) for one in seen)


class FrozenReplay:
    """A stand-in for a CUDA graph: repeats the operations of a pass."""

    def __init__(self):
        self.replays = 0

    def __call__(self, run, views):
        operations = make_fx(run)(views.detach().clone())

        def replay(views):
            self.replays += 1
            scores, gradient = operations(views.detach().clone())
            return scores.clone(), gradient

        return replay


def test_compiled_passes_are_captured():
    model, compiler, capture = Swish(), StandIn(), FrozenReplay()
    store = graphs_by(capture)
    store.compiler = compiler.compiler()
    longer = {"nb_steps": 8, "color_shift": 0.1}  # whole steps are not captured with it
    image = drawn(model, store, **longer)
    assert compiler.graphs == 2
    assert capture.replays > 3
    assert close(image, plain(model, **longer))
    again = drawn(model, store, **longer)
    assert close(again, image)
    assert close(drawn(model, store, compile=False, **longer), image)
    assert compiler.graphs == 2


def test_whole_steps_are_captured():
    model, compiler, capture = Swish(), StandIn(), StepRecorder()
    store = graphs_by(None, capture)
    store.compiler = compiler.compiler()
    image = drawn(model, store, nb_steps=12)
    assert compiler.graphs == 2
    assert capture.recordings
    assert close(image, plain(model, nb_steps=12))


# With the compiler itself.


class Timed(StandIn):
    """Compiles with TorchInductor; by its clock, too, what is compiled is faster."""

    def __call__(self, graph, examples):
        return super().__call__(inductor(graph, examples), examples)


@pytest.mark.thorough
@pytest.mark.parametrize("settings", [{}, {"precision": "bfloat16"}, {"nb_crops": 1}])
def test_the_compiler_itself(settings):
    model, compiler = Swish(), Timed()
    drawn(model, StandIn().store())  # what is imported may draw
    before, state = everything(model), global_state()
    image = drawn(model, compiler.store(), **settings)
    assert compiler.calls > 2 * 2
    assert everything(model) == before
    assert global_state() == state
    rounded, exact = plain(model, **settings), plain(model, **{**settings, "precision": None})
    most = max(1e-3 * exact.norm(), 2 * (rounded - exact).norm())
    assert (image - rounded).norm() < most


@pytest.mark.thorough
def test_the_compiler_itself_keeps_nothing_of_a_network():
    model = Swish()
    store = Timed().store()
    drawn(model, store)
    assert len(store) == 1
    kept = [weakref.ref(model), weakref.ref(model.gate.weight.untyped_storage())]
    del model
    gc.collect()
    assert [one() for one in kept] == [None, None]
    assert len(store) == 0


@pytest.mark.thorough
def test_the_compiler_itself_in_two_threads():
    models, results = [Swish(), Swish()], {}

    def draw(index):
        results[index] = drawn(models[index], Timed().store(), unit=index)

    threads = [threading.Thread(target=draw, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(close(results[index], plain(models[index], index)) for index in (0, 1))


@pytest.mark.thorough
@pytest.mark.parametrize("delay", [0.05, 0.4, 1, 2.5])
def test_the_compiler_itself_interrupted(delay):
    """By a timer while it works; the next call compiles as if nothing had been."""
    model, store = Swish(), Timed().store()
    before, state = everything(model), global_state()
    settings = torch._inductor.config.save_config_portable()
    ended = []

    class Interrupted(Timed):
        def __call__(self, graph, examples):
            timer = threading.Timer(delay, signal.raise_signal, [signal.SIGINT])
            timer.start()
            try:
                return super().__call__(graph, examples)
            finally:
                ended.append(timer.is_alive())
                timer.cancel()

    run = Run(
        neuron(model), MacoSettings(**SHORT, compile=True), progress=False,
        forms=Interrupted().store(),
    )  # fmt: skip
    with contextlib.suppress(KeyboardInterrupt), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run.draw([0])
    assert ended
    assert everything(model) == before
    assert global_state() == state
    assert torch._inductor.config.save_config_portable() == settings
    assert not torch.utils._python_dispatch._get_current_dispatch_mode_stack()
    assert close(drawn(model, store), plain(model))
