"""The decisions about CUDA graphs, with stand-ins; tests/test_gpu.py has real graphs.

The recorder does what a graph does: it runs the pass once, then repeats the operations of that run
on new views, without running Python again. The other stand-in, `CudaStandIn`, has each part of CUDA
that a capture uses, and fails in the ways torch does.
"""

import gc
import threading

import pytest
import torch
from engine.cuda_stand_in import GPU, CudaStandIn
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

import fvfast.engine.engine as engine_module
import fvfast.engine.graphs.repeated_pass as repeated_pass_module
from fvfast import Objective, maco, optimize
from fvfast.cli.network import describe_float32, describe_graph
from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.engine import running_engine
from fvfast.engine.exact_float32 import exact_float32
from fvfast.engine.graphs.cuda_graph import (
    EAGER_PASSES,
    GraphedPass,
    can_be_captured,
    why_not_captured,
)
from fvfast.engine.graphs.rehearsal import WaitWatch, is_only_thread
from fvfast.engine.passes import Passes
from fvfast.engine.rewrite.forms import Form
from fvfast.engine.rewrite.plan import Plan
from fvfast.engine.rewrite.recording import record_convolutions

INPUT = (3, 20, 20)
SHORT = {"nb_steps": 6, "custom_shape": (32, 32), "progress": False}


def square(views):
    return views.flatten(1).square().sum(1), 2 * views


class Recorder:
    """Captures passes, and counts captures and replays."""

    def __init__(self, wrong=0.0, error=None):
        self.captures = self.replays = 0
        self.wrong = wrong
        self.error = error

    def __call__(self, run, views):
        self.captures += 1
        if self.error is not None:
            raise self.error
        kept = views.detach().clone()
        static = [torch.empty_like(result) for result in run(kept)]

        def replay(views):
            self.replays += 1
            kept.copy_(views)
            for to, result in zip(static, run(kept), strict=True):
                to.copy_(result * (1 + self.wrong))
            return static[0].clone(), static[1]

        return replay


def views_of(seed, count=4):
    return torch.randn(count, *INPUT, generator=torch.Generator().manual_seed(seed))


def test_a_pass_is_captured_after_a_few():
    recorder = Recorder()
    run = GraphedPass(square, recorder)
    for seed in range(EAGER_PASSES + 3):
        views = views_of(seed)
        scores, gradient = run(views)
        assert torch.equal(scores, square(views)[0])
        assert torch.equal(gradient, square(views)[1])
    assert (recorder.captures, recorder.replays) == (1, 1 + 3)  # the first is compared


def test_scores_outlast_the_next_pass():
    run = GraphedPass(square, Recorder())
    kept = [run(views_of(seed))[0] for seed in range(EAGER_PASSES + 3)]
    for seed, scores in enumerate(kept):
        assert torch.equal(scores, square(views_of(seed))[0])


@pytest.mark.parametrize("wrong", [1e-2, float("nan"), float("inf")])
def test_a_graph_that_gives_something_else_is_not_used(wrong):
    recorder = Recorder(wrong)
    run = GraphedPass(square, recorder)
    for seed in range(EAGER_PASSES + 3):
        views = views_of(seed)
        assert torch.equal(run(views)[0], square(views)[0])
    assert (recorder.captures, recorder.replays) == (1, 1)


def test_rounding_is_no_difference():
    recorder = Recorder(wrong=1e-6)
    run = GraphedPass(square, recorder)
    for seed in range(EAGER_PASSES + 3):
        run(views_of(seed))
    assert recorder.replays == 1 + 3


def test_what_cannot_be_captured_runs_as_it_is():
    recorder = Recorder(error=RuntimeError("operation not permitted when stream is capturing"))
    run = GraphedPass(square, recorder)
    for seed in range(EAGER_PASSES + 3):
        assert torch.equal(run(views_of(seed))[1], 2 * views_of(seed))
    assert (recorder.captures, recorder.replays) == (1, 0)


def test_mistakes_of_the_pass_are_not_hidden():
    run = GraphedPass(square, Recorder(error=TypeError("a mistake")))
    for seed in range(EAGER_PASSES - 1):
        run(views_of(seed))
    with pytest.raises(TypeError, match="a mistake"):
        run(views_of(0))


def test_other_views_run_as_they_are():
    recorder = Recorder()
    run = GraphedPass(square, recorder)
    for seed in range(EAGER_PASSES):
        run(views_of(seed))
    replays = recorder.replays
    for views in (
        views_of(0, count=2),
        views_of(0).double(),
        views_of(0).contiguous(memory_format=torch.channels_last),
    ):
        scores, gradient = run(views)
        assert torch.equal(scores, square(views)[0])
        assert gradient.dtype == views.dtype
    assert recorder.replays == replays
    run(views_of(1))
    assert recorder.replays == replays + 1


@pytest.mark.parametrize("setting", ["enabled", "deterministic", "allow_tf32", "all"])
def test_other_settings_choose_other_kernels(setting, monkeypatch):
    recorder = Recorder()
    run = GraphedPass(square, recorder)
    for seed in range(EAGER_PASSES):
        run(views_of(seed))
    replays = recorder.replays
    if setting == "all":
        torch.use_deterministic_algorithms(True)
    else:
        monkeypatch.setattr(
            torch.backends.cudnn, setting, not getattr(torch.backends.cudnn, setting)
        )
    try:
        run(views_of(0))
    finally:
        torch.use_deterministic_algorithms(False)
    assert recorder.replays == replays
    monkeypatch.undo()
    run(views_of(0))
    assert recorder.replays == replays + 1


def hooked(register):
    def change(model):
        getattr(model[0], register)(lambda *_: None)

    return change


@pytest.mark.parametrize(
    "change",
    [
        hooked("register_forward_hook"),
        hooked("register_forward_pre_hook"),
        hooked("register_full_backward_hook"),
        hooked("register_full_backward_pre_hook"),
    ],
)
def test_hooks_want_python_in_every_pass(network, change):
    assert can_be_captured_on_its_device(network)
    change(network)
    assert not can_be_captured_on_its_device(network)


def test_hooks_on_all_modules_do_too(network):
    handle = register_module_forward_hook(lambda *_: None)
    try:
        assert not can_be_captured_on_its_device(network)
    finally:
        handle.remove()
    assert can_be_captured_on_its_device(network)


def can_be_captured_on_its_device(model, **settings):
    with pytest.MonkeyPatch.context() as patch:
        # CPU tensors pass for those of a GPU.
        patch.setattr(torch.Tensor, "device", property(lambda _tensor: GPU))
        return can_be_captured(model, GPU, **{"runs_user_code": False, **settings})


def test_what_is_captured(network, monkeypatch):
    assert not can_be_captured(network, torch.device("cpu"), runs_user_code=False)
    assert not can_be_captured(network, GPU, runs_user_code=False)  # the network is not there
    assert not can_be_captured(None, GPU, runs_user_code=False)
    assert not can_be_captured_on_its_device(network, runs_user_code=True)
    monkeypatch.setenv("FVFAST_CUDA_GRAPH", "0")
    assert not can_be_captured_on_its_device(network)


def objectives(network):
    return {
        "neurons": (Objective.neuron(network, "7", [1, 2], input_shape=INPUT), False),
        "a layer": (Objective.layer(network, "4", input_shape=INPUT), False),
        "a function": (
            Objective.from_callable(network, lambda x: network(x)[:, 3], input_shape=INPUT),
            True,
        ),
        "a mask with a function": (
            Objective(
                network, ["2"], [[torch.ones(8, 18, 18)]],
                [lambda outputs, mask: (outputs * mask).mean()], [1.0], [["a"]],
                input_shape=INPUT,
            ),
            True,
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["neurons", "a layer", "a function", "a mask with a function"])
def test_functions_of_the_user_are_known(network, name):
    objective, expected = objectives(network)[name]
    assert objective.runs_user_code is expected
    assert (objective + objectives(network)["a layer"][0]).runs_user_code is expected


@pytest.mark.parametrize("draw", [maco, optimize])
def test_runs_are_the_same(monkeypatch, network, draw):
    """Both loops use the results of a pass before the next pass overwrites them."""
    objective = Objective.neuron(network, "7", 1, input_shape=INPUT)
    scores = []

    def picture(**settings):
        scores.append([])
        results = draw(
            objective, **SHORT, callback=lambda report: scores[-1].append(report.scores), **settings
        )
        return torch.as_tensor(results[0][-1])

    expected = picture()
    recorder = Recorder()
    monkeypatch.setattr(engine_module, "can_be_captured", lambda *_, **__: True)
    monkeypatch.setattr(repeated_pass_module, "GraphedPass", lambda run: GraphedPass(run, recorder))
    assert torch.equal(picture(), expected)
    assert all(map(torch.equal, *scores))
    assert recorder.replays == 1 + SHORT["nb_steps"] - EAGER_PASSES


def test_the_warm_up_has_a_graph_of_its_own(monkeypatch):
    """Its ReLUs have other gradients."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 18 * 18, 3))
    objective = Objective.neuron(model.eval(), 3, 1, input_shape=INPUT)
    recorder = Recorder()
    settings = {**SHORT, "warmup_steps": 5, "transformations": None}
    expected, _ = optimize(objective, **settings)
    monkeypatch.setattr(engine_module, "can_be_captured", lambda *_, **__: True)
    monkeypatch.setattr(repeated_pass_module, "GraphedPass", lambda run: GraphedPass(run, recorder))
    images, _ = optimize(objective, **settings)
    assert torch.equal(images[-1], expected[-1])
    assert recorder.captures == 2


@pytest.mark.parametrize("which", [0, 1])
def test_one_result_that_is_not_a_number_suffices(which):
    """With a NaN among its arguments, max returns the one that comes first."""

    def capture(run, _views):
        def replay(views):
            results = list(run(views))
            results[which] = results[which] * float("nan")
            return tuple(results)

        return replay

    run = GraphedPass(square, capture)
    for seed in range(EAGER_PASSES + 1):
        assert all(map(torch.equal, run(views_of(seed)), square(views_of(seed))))
    assert "differs by inf" in run.obstacle


@pytest.mark.parametrize(("wrong", "taken"), [(5e-3, True), (9e-3, False)])
def test_a_replay_may_differ_as_passes_do(wrong, taken):
    """The rehearsal and the pass after it differ by 0.2 %."""
    factors = iter([1.0, 1.0, 1.0, 1.002])

    def unsteady(views):
        factor = next(factors)
        return tuple(result * factor for result in square(views))

    def capture(_run, _views):
        return lambda views: tuple(result * (1 + wrong) for result in square(views))

    run = GraphedPass(unsteady, capture)
    for seed in range(EAGER_PASSES):
        run(views_of(seed))
    assert (run.replay is not None) is taken
    assert bool(run.obstacle) is not taken


def test_a_pass_that_counts_is_not_captured():
    """A graph would repeat the same number, which the difference of two passes must not allow."""
    recorder, calls = Recorder(), []

    def counting(views):
        calls.append(views)
        return tuple(result * len(calls) for result in square(views))

    run = GraphedPass(counting, recorder)
    for seed in range(EAGER_PASSES + 2):
        run(views_of(seed))
    assert recorder.captures == 0
    assert "two passes over the same views differ by" in run.status


# What CUDA and torch do where a capture fails


@pytest.fixture(params=[(2, 11), (2, 14)], ids=["torch 2.11", "torch 2.14"])
def gpu(request, monkeypatch):
    gpu = CudaStandIn(request.param)
    gpu.state = gpu.install(monkeypatch)
    return gpu


@pytest.fixture(params=["alone", "beside another thread"])
def threads(request):
    """Another thread of the program must not get an error when it waits for the GPU."""
    end = threading.Event()
    other = threading.Thread(target=end.wait)
    if request.param != "alone":
        other.start()
    assert is_only_thread() is (request.param == "alone")
    yield request.param
    end.set()
    if request.param != "alone":
        other.join()


def run_passes(run, count=EAGER_PASSES + 3):
    """Run passes, and check what they give against `square`."""
    for seed in range(count):
        views = views_of(seed)
        assert all(map(torch.equal, run(views), square(views)))


def assert_as_before(gpu, mode=0):
    assert gpu.stream is gpu.default_stream
    assert gpu.sync_mode == mode
    gpu.draw()
    assert gpu.graph is None


def out_of_memory_recovery(gpu):
    """Run a pass that runs out of memory once; return how often the cache was emptied."""
    before = gpu.emptied

    def network(views):
        if len(views) > 2:
            raise torch.OutOfMemoryError("no memory for 4 views")
        return [views.flatten(1)]

    passes = Passes(lambda _first, _last: lambda outputs: outputs[0].square().sum(1), "name")
    views = views_of(0)
    with pytest.warns(RuntimeWarning, match="going on with 2"):
        scores, gradient = passes.run(network, views, len(views))
    assert torch.equal(scores, square(views)[0])
    assert torch.equal(gradient, square(views)[1])
    return gpu.emptied - before


@pytest.mark.usefixtures("threads")
def test_passes_are_replayed(gpu):
    run = GraphedPass(lambda views: gpu.launch(square, views))
    run_passes(run)
    launched = len(gpu.modes)
    run_passes(run)
    assert len(gpu.modes) == launched
    assert run.status == "replayed from a CUDA graph"
    assert gpu.mode == "thread_local"
    assert len(gpu.graphs) == 1
    assert_as_before(gpu)
    assert out_of_memory_recovery(gpu) == 1


@pytest.mark.parametrize("mode", [0, 1])
def test_what_waits_is_not_captured(gpu, mode):
    gpu.sync_mode = mode

    def waits(views):
        results = gpu.launch(square, views)
        gpu.wait()
        return results

    run = GraphedPass(waits)
    run_passes(run)
    assert gpu.graphs == []
    assert gpu.emptied == 1  # of what the rehearsal left
    assert run.obstacle == "called a synchronizing CUDA operation"
    assert_as_before(gpu, mode)
    another = GraphedPass(lambda views: gpu.launch(square, views))
    run_passes(another)
    assert another.replay is not None
    assert out_of_memory_recovery(gpu) == 1


def test_the_rehearsal_is_in_order_with_other_streams(gpu):
    streams = []

    def noted(views):
        streams.append(gpu.stream)
        return gpu.launch(square, views)

    run_passes(GraphedPass(noted))
    inside = streams[EAGER_PASSES - 1]
    assert streams == [gpu.default_stream] * 2 + [inside, gpu.default_stream, inside]
    assert inside.device == GPU  # and not that of the first capture of the program
    assert inside.waited_for == [gpu.default_stream]
    assert gpu.default_stream.waited_for == [inside]
    run_passes(GraphedPass(noted))
    assert streams[-1] is inside


@pytest.mark.parametrize("how", ["an unseen wait", "no beginning"])
def test_a_failed_capture_is_the_last(gpu, threads, how):
    before = GraphedPass(lambda views: gpu.launch(square, views))
    run_passes(before)
    gpu.begin_fails = how == "no beginning"

    def waits(views):
        results = gpu.launch(square, views)
        gpu.wait(seen=False)
        return results

    def plain(views):
        return gpu.launch(square, views)

    run = GraphedPass(plain if gpu.begin_fails else waits)
    run_passes(run)
    assert len(gpu.graphs) == 2
    assert_as_before(gpu)
    assert gpu.modes.count(2) == (2 if threads == "alone" else 0)  # the two rehearsals
    gc.collect()
    assert gpu.graphs[1]() is not None  # the allocator may ask for it

    gpu.begin_fails = False
    another, rehearsed = GraphedPass(plain), gpu.modes.count(2)
    run_passes(another)
    assert len(gpu.graphs) == 2
    assert gpu.modes.count(2) == rehearsed
    reason = "CUDA error: cudaStreamBeginCapture"
    if how == "an unseen wait":
        reason = "operation failed due to a previous error during capture"
    assert run.obstacle == reason
    assert another.obstacle == f"the capture of a CUDA graph failed in this process: {reason}"
    assert out_of_memory_recovery(gpu) == 0

    launched = len(gpu.modes)
    run_passes(before)
    assert len(gpu.modes) == launched  # what was captured before is still replayed


def test_a_capture_that_fails_meanwhile_in_another_thread(gpu):
    """After the rehearsal of this one."""

    def late(views):
        if gpu.stream is not gpu.default_stream:
            gpu.state.failure = "of another thread"
        return gpu.launch(square, views)

    run = GraphedPass(late)
    run_passes(run)
    assert gpu.graphs == []
    assert run.obstacle == "of another thread"
    assert_as_before(gpu)


@pytest.mark.parametrize("error", [RuntimeError, torch.OutOfMemoryError, TypeError])
def test_what_fails_without_breaking_the_capture(gpu, error):
    """Too little memory for a graph, for example: torch ends the capture like any other."""

    def fails(views):
        if gpu.graph is not None:
            raise error("in the capture")
        return gpu.launch(square, views)

    run = GraphedPass(fails)
    if error is TypeError:
        with pytest.raises(TypeError, match="in the capture"):
            run_passes(run)
    else:
        run_passes(run)
        assert run.obstacle == "in the capture"
    assert gpu.state.failure == ""
    assert_as_before(gpu)
    assert out_of_memory_recovery(gpu) == 1
    another = GraphedPass(lambda views: gpu.launch(square, views))
    run_passes(another)
    assert another.replay is not None


def test_a_replay_that_fails_is_run_as_it_is(gpu):
    run = GraphedPass(lambda views: gpu.launch(square, views))
    run_passes(run)
    gpu.replay_fails = True
    run_passes(run)
    assert run.replay is None
    assert "a replay failed: Offset increment" in run.status


@pytest.mark.usefixtures("threads")
def test_random_numbers_are_not_captured(gpu):
    def draws(views):
        gpu.draw()
        return gpu.launch(square, views)

    run = GraphedPass(draws)
    run_passes(run)
    assert gpu.graphs == []
    assert run.obstacle == "it draws random numbers"


@pytest.mark.parametrize("what", ["empty the cache", "rehearse"])
def test_other_threads_wait_for_the_end_of_a_capture(gpu, what):
    """One that runs out of memory; one whose work would be captured with the rest."""
    done = []

    def work():
        if what == "empty the cache":
            gpu.state.empty_cache()
            done.append(what)
        else:
            with gpu.state.on_stream(GPU):
                done.append(what)

    other = threading.Thread(target=work)
    seen = []

    def starts(views):
        if gpu.graph is not None:
            other.start()
            other.join(0.2)
            seen.extend(done)
        return gpu.launch(square, views)

    run = GraphedPass(starts)
    run_passes(run)
    other.join()
    assert seen == []
    assert done == [what]
    assert run.replay is not None


@pytest.mark.usefixtures("gpu")
def test_an_operation_that_waits_is_found_beside_another_thread(gpu, threads):
    def reads(views):
        results = gpu.launch(square, views)
        assert results[0].sum().item() > 0
        return results

    run = GraphedPass(reads)
    run_passes(run)
    if threads == "alone":
        assert run.replay is not None  # the stand-in sees its own waits alone
    else:
        assert gpu.graphs == []
        assert run.obstacle == "it waits for the GPU in aten._local_scalar_dense.default"


class ReadsInItsGradient(torch.autograd.Function):
    @staticmethod
    def forward(_ctx, x):
        return x * 2

    @staticmethod
    def backward(_ctx, gradient):
        return gradient * float(gradient.max())


def gradient_of(function, x):
    x.requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)


MASK = torch.tensor([True, False, True])
WAITS = {
    "a number": lambda x: float(x[0]),
    "a decision": lambda x: 1 if x.sum() > 0 else 2,
    "a comparison": lambda x: torch.equal(x, x + 1),
    "where": lambda x: torch.where(x > 0),
    "unique": lambda x: torch.unique(x),
    "a mask": lambda x: x[MASK],
    "a mask to write to": lambda x: x.clone().index_put_((MASK,), x.new_ones(2)),
    "repeats": lambda x: x.repeat_interleave(torch.tensor([1, 2, 1])),
    "to another device": lambda x: x.to("meta"),
    "copied to another device": lambda x: torch.empty(3, device="meta").copy_(x),
    # What torch.tensor([1.0], device=...) ends with.
    "numbers for another device": lambda _x: torch.ops.aten.lift_fresh(
        torch.ones(1, device="meta")
    ),
    "a gradient": lambda x: gradient_of(ReadsInItsGradient.apply, x),
}
NO_WAITS = {
    "an index": lambda x: x[torch.tensor([0, 2])],
    "slices": lambda x: x[None, 1:].clone(),
    "a filled mask": lambda x: x.masked_fill(MASK, 1.0),
    "a chosen value": lambda x: torch.where(MASK, x, 0),
    "a type": lambda x: x.double(),
    "a copy": lambda x: torch.empty(3).copy_(x),
    "an index to write to": lambda x: x.clone().index_put_((torch.tensor([1]),), x.new_ones(1)),
    "a gradient": lambda x: gradient_of(torch.square, x),
}


@pytest.mark.parametrize("name", WAITS)
def test_operations_that_wait(name):
    with WaitWatch() as watch:
        WAITS[name](torch.tensor([1.0, -2.0, 3.0]))
    assert watch.obstacle.startswith("it waits for the GPU in aten.")


@pytest.mark.parametrize("name", NO_WAITS)
def test_operations_that_do_not_wait(name):
    x = torch.tensor([1.0, -2.0, 3.0])
    with WaitWatch() as watch:
        NO_WAITS[name](x)
    assert watch.obstacle == ""


@pytest.mark.parametrize("name", ["neurons", "a layer"])
@pytest.mark.parametrize("form", [Form(), Form(joined=True, channels_last=True)], ids=str)
def test_passes_do_not_wait(network, name, form):
    """After the first, which copies what it needs to the device."""
    objective, _ = objectives(network)[name]
    count = len(objective.combination_names)
    with borrowed(network):
        tapped, _, (name, *_), _ = objective.compile()
        plan = Plan(form, record_convolutions(network, lambda: tapped(views_of(0))))
        with running_engine(
            tapped, plan, lambda first, last: objective.scorer(range(first, last)), name
        ) as engine:
            expected = engine.gradients(views_of(0), count)
            with WaitWatch() as watch:
                actual = engine.gradients(views_of(0), count)
    assert watch.obstacle == ""
    assert all(map(torch.equal, actual, expected))


def test_why_nothing_is_captured(network, monkeypatch):
    def why(device, model=network, **settings):
        return why_not_captured(model, device, **{"runs_user_code": False, **settings})

    assert why(torch.device("cpu")) == "there are none on cpu"
    assert why(GPU) == "the network's tensors are on cpu, not all on cuda:0"
    assert "function of the user" in why(GPU, runs_user_code=True)
    assert "function of the user" in why(GPU, model=None)
    monkeypatch.setenv("FVFAST_CUDA_GRAPH", "0")
    assert "FVFAST_CUDA_GRAPH=0" in why(GPU)
    monkeypatch.delenv("FVFAST_CUDA_GRAPH")
    monkeypatch.setattr(torch.Tensor, "device", property(lambda _tensor: GPU))
    assert why(GPU) == ""
    network[0].register_forward_hook(lambda *_: None)
    assert "hooks" in why(GPU)


def described(network, gpu):
    """What info says about passes that are captured on a GPU."""
    objective = Objective.layer(network, -1, input_shape=INPUT)
    with pytest.MonkeyPatch.context() as patch, borrowed(network):
        gpu.install(patch)
        tapped, scorer, (name,), _ = objective.compile()  # its targets are there too
        return describe_graph(tapped, Plan(), scorer, views_of(0), name)


def test_what_info_says(network, monkeypatch):
    assert described(network, CudaStandIn((2, 14))) == "replayed from a CUDA graph"
    monkeypatch.setenv("FVFAST_CUDA_GRAPH", "0")
    assert "FVFAST_CUDA_GRAPH=0" in described(network, CudaStandIn((2, 14)))


def test_what_info_says_of_a_network_that_waits(network):
    gpu = CudaStandIn((2, 14))

    class Waits(nn.Module):
        def forward(self, x):
            gpu.wait()
            return x

    assert described(nn.Sequential(*network, Waits()).eval(), gpu) == (
        "without a CUDA graph: called a synchronizing CUDA operation"
    )


def test_what_info_says_of_float32():
    assert describe_float32() == "convolutions may use TF32, matrices without TF32"
    with exact_float32():
        assert describe_float32() == "convolutions without TF32, matrices without TF32"
