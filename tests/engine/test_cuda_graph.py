"""What decides about CUDA graphs, with a recorder in place of one; tests/test_gpu.py has graphs.

The recorder does what a graph does: it runs the pass once, and afterwards repeats the operations of
that one run on new views, whatever Python would do.
"""

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

import fvfast.engine.engine as engine_module
import fvfast.engine.repeated_pass as repeated_pass_module
from fvfast import Objective, maco, optimize
from fvfast.engine.cuda_graph import EAGER_PASSES, GraphedPass, can_be_captured

GPU = torch.device("cuda", 0)
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
        # The processor's tensors pass for those of a GPU.
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
    """Both loops use what a pass returns before the next one overwrites it."""
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
