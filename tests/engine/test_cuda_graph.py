"""The decisions about CUDA graphs, with stand-ins; tests/test_gpu.py has real graphs.

The recorder does what a graph does: it runs the pass once, and afterwards repeats the operations of
that one run on new views, whatever Python would do. What a failed capture leaves is in
test_captures.py.
"""

import pytest
import torch
from engine.cuda_stand_in import GPU
from engine.passes_to_capture import INPUT, objectives, square, views_of
from injected_runs import drawn_with, graphs_by
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from fvfast import Objective
from fvfast.engine.graphs.cuda_graph import (
    EAGER_PASSES,
    GraphedPass,
    why_not_captured,
)
from fvfast.engine.rewrite.kept_forms import FormStore
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.optimize_settings import OptimizeSettings

STEPS = {"nb_steps": 6, "custom_shape": (32, 32)}


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
    assert obstacle(network) == ""
    change(network)
    assert "hooks" in obstacle(network)


def test_hooks_on_all_modules_do_too(network):
    handle = register_module_forward_hook(lambda *_: None)
    try:
        assert "hooks" in obstacle(network)
    finally:
        handle.remove()
    assert obstacle(network) == ""


def obstacle(model, device=GPU, *, runs_user_code=False, moved=True):
    """Why a network is not captured, where the processor's tensors pass for those of a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        if moved:
            patch.setattr(torch.Tensor, "device", property(lambda _tensor: GPU))
        return why_not_captured(model, device, runs_user_code=runs_user_code)


@pytest.mark.parametrize("name", ["neurons", "a layer", "a function", "a mask with a function"])
def test_functions_of_the_user_are_known(network, name):
    objective, expected = objectives(network)[name]
    assert objective.runs_user_code is expected
    assert (objective + objectives(network)["a layer"][0]).runs_user_code is expected


@pytest.mark.parametrize("settings", [MacoSettings, OptimizeSettings])
def test_runs_are_the_same(network, settings):
    """Both loops use what a pass returns before the next one overwrites it."""
    objective = Objective.neuron(network, "7", 1, input_shape=INPUT)
    recorder = Recorder()
    expected = drawn_with(FormStore(), objective, settings(**STEPS))
    replayed = drawn_with(graphs_by(recorder), objective, settings(**STEPS))
    assert all(map(torch.equal, replayed, expected))  # images and scores
    assert recorder.replays == 1 + STEPS["nb_steps"] - EAGER_PASSES


def test_the_warm_up_has_a_graph_of_its_own():
    """Its ReLUs have other gradients."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 18 * 18, 3))
    objective = Objective.neuron(model.eval(), 3, 1, input_shape=INPUT)
    recorder = Recorder()
    settings = OptimizeSettings(**STEPS, warmup_steps=5, transformations=None)
    images, _ = drawn_with(graphs_by(recorder), objective, settings)
    expected, _ = drawn_with(FormStore(), objective, settings)
    assert torch.equal(images, expected)
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


def test_why_nothing_is_captured(network, monkeypatch):
    assert obstacle(network, torch.device("cpu")) == "there are none on cpu"
    assert obstacle(network, moved=False) == "the network's tensors are on cpu, not all on cuda:0"
    assert "function of the user" in obstacle(network, runs_user_code=True)
    assert "function of the user" in obstacle(None)
    assert obstacle(network) == ""
    monkeypatch.setenv("FVFAST_CUDA_GRAPH", "0")
    assert "FVFAST_CUDA_GRAPH=0" in obstacle(network)
