"""What only a GPU can show: streams, captured graphs, several devices, the same run as elsewhere.

That the kernels compute the right numbers is tested in tests/ops, on a GPU too where there is one.
"""

import copy
import dataclasses
import functools
import itertools
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from engine.plans import gradients, objective_of, plan_of, relative, views_of
from injected_runs import golden_settings
from test_endings import ENDINGS, METHODS, Ascents, assert_same
from test_golden_run import assert_close, objectives

from fvfast import Objective, maco
from fvfast.cli.network import describe_engine
from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.captures import CAPTURES
from fvfast.engine.graphs.cuda_graph import EAGER_PASSES, CudaGraphs, capture_pass, capture_steps
from fvfast.engine.rewrite.epilogue_choice import seconds_on_gpu
from fvfast.engine.rewrite.kept_forms import FormStore
from fvfast.lucent.layer_names import LayerNames
from fvfast.lucent.optvis import objectives as lucent_objectives
from fvfast.lucent.optvis import render
from fvfast.lucent.optvis.network import ObjectiveOnNetwork
from fvfast.models import LoadedModel
from fvfast.ops import inject_noise, random_crops
from fvfast.ops._kernels import native_status, runs_on
from fvfast.ops.boxes import draw_boxes
from fvfast.ops.nadam import nadam_table
from fvfast.ops.phase_ascent import phase_ascent_, render_phase
from fvfast.ops.phase_update import fake_sums
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.run import Run


def why_not():
    """Return the reason why these tests cannot run here; empty if they can."""
    if torch.version.cuda is None or not torch.cuda.is_available():
        return "needs an NVIDIA GPU"
    status = native_status()
    capability = torch.cuda.get_device_capability()
    if not status.available or not runs_on(capability, status.cuda_architectures):
        built = status.cuda_architectures or status.cuda_reason
        return f"fvfast has no CUDA kernels for compute capability {capability}: {built}"
    return ""


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "none")

SEED, IDENTITIES = 0x1234_5678_9ABC_DEF0, [3, 2**32 - 1]
RANGE = (-1.0, 2.0)
CROPS, CROP = 5, 20
INPUT = (3, 20, 20)  # of the fixture network
LONG = 2**30  # cycles: about half a second
# Of each step.
BOX_SIZES, STDS, WIDTHS = [0.4, 0.3, 0.7, 0.1], [0.1, 0.3, 0.0, 0.7], [0.3, 0.0, 0.1, 0.2]
LEARNING_RATES = [0.5, 1.0, 0.1, 0.7]
SIZES = [(48, 40), (97, 30)]  # with the transforms in the kernels, and in torch.fft


class Step:
    """One step around a network, in memory that stays where it is.

    The box size, the scales of the noise, NAdam's rates and the identities are read by the kernels,
    so that a captured graph has those of each step; or the host knows them.
    """

    def __init__(self, device, size=SIZES[0], *, tables=True):
        generator = torch.Generator().manual_seed(0)
        half = (3, size[0], size[1] // 2 + 1)

        def normal(*shape):
            return torch.randn(shape, generator=generator).to(device)

        self.device = device
        self.width = size[1]
        self.magnitude = normal(*half).abs() + 0.1
        self.counter = torch.zeros((), dtype=torch.int64, device=device)
        self.tables = tables
        self.rates = nadam_table(len(LEARNING_RATES), lr=LEARNING_RATES).to(device)
        self.numbers = torch.tensor([BOX_SIZES, STDS, WIDTHS], dtype=torch.float64).to(device)
        self.words = torch.tensor(IDENTITIES, device=device)
        self.transparency = torch.zeros(2, 3, *size, device=device)
        self.phase = normal(2, *half)
        self.exp_avg = torch.zeros_like(self.phase)
        # Not small: the update divides by its root.
        self.exp_avg_sq = 0.5 + normal(2, *half) ** 2
        self.sums = fake_sums(self.phase).zero_()
        flat = self.phase.double().flatten(1)
        self.sums[:, 0] = torch.stack((flat.sum(1), flat.square().sum(1)), dim=1)

    @property
    def state(self):
        return {
            "phase": self.phase,
            "exp_avg": self.exp_avg,
            "exp_avg_sq": self.exp_avg_sq,
            "sums": self.sums,
            "transparency": self.transparency,
            "counter": self.counter,
        }

    def copy(self):
        return {name: values.clone() for name, values in self.state.items()}

    def restore(self, copy):
        for name, values in self.state.items():
            values.copy_(copy[name])

    def __call__(self):
        rendered = render_phase(self.magnitude, self.phase, RANGE, self.width, phase_sums=self.sums)
        image = rendered.image.requires_grad_()
        side, std, uniform_width = self.numbers
        key = {"seed": SEED, "step": self.counter, "identities": self.words}
        nadam = {"step": self.counter, "rates": self.rates}
        if not self.tables:
            step = self.counter.item()
            side, std, uniform_width = self.numbers[:, step].tolist()
            key = {"seed": SEED, "step": step, "identities": IDENTITIES}
            nadam = {"step": step + 1, "lr": LEARNING_RATES[step]}
        self.boxes = draw_boxes(side, CROPS, device=self.device, **key)
        self.crops = random_crops(
            image,
            self.boxes,
            CROP,
            std=std,
            uniform_width=uniform_width,
            transparency=self.transparency,
            **key,
        )
        score = self.crops.square().mean()  # its gradient depends on the boxes and the noise
        (gradient,) = torch.autograd.grad(score, image)
        sums = phase_ascent_(
            gradient, rendered, self.magnitude, self.phase, self.exp_avg, self.exp_avg_sq, RANGE,
            **nadam,
        )  # fmt: skip
        self.sums.copy_(sums)
        self.counter += 1


def assert_same_bits(actual, expected):
    for name, values in expected.items():
        assert values.isfinite().all(), name
        assert torch.equal(actual[name].cpu(), values.cpu()), name


@pytest.fixture
def device():
    return torch.device("cuda", torch.cuda.current_device())


@pytest.mark.parametrize("size", SIZES)
def test_a_captured_step_draws_anew_in_each_replay(device, size):
    eager, captured = Step(device, size, tables=False), Step(device, size)
    beginning = captured.copy()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # as torch asks for: what is set up on first use is set up now
        for _ in range(3):
            captured()
    torch.cuda.current_stream().wait_stream(side)
    captured.restore(beginning)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured()
    assert_same_bits(captured.copy(), beginning)  # a capture runs nothing

    seen = []
    for number in range(4):
        eager()
        graph.replay()
        assert_same_bits(captured.copy(), eager.copy())
        assert torch.equal(captured.boxes, eager.boxes)
        assert torch.equal(captured.crops, eager.crops)
        side = BOX_SIZES[number]
        expected = draw_boxes(side, CROPS, seed=SEED, identities=IDENTITIES, step=number)
        assert torch.equal(captured.boxes.cpu(), expected)
        seen.append(captured.boxes.clone())
    assert captured.counter.item() == 4
    assert not any(torch.equal(one, other) for one, other in itertools.pairwise(seen))


@pytest.mark.parametrize("size", SIZES)
def test_on_another_stream(device, size):
    """The inputs become what they should be late, in the order of the stream and of no other."""
    expected, late = Step(device, size), Step(device, size)
    beginning = late.copy()
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    # What is set up on first use, memory too, may wait for the device and hide a missing order.
    with torch.cuda.stream(stream):
        late()
    torch.cuda.synchronize()
    for values in late.state.values():
        values.fill_(1)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(LONG)
        late.restore(beginning)
        late()
    assert not stream.query()  # nothing waited for the stream, so that it was late indeed
    torch.cuda.current_stream().wait_stream(stream)
    actual, crops = late.copy(), late.crops.clone()
    expected()
    assert_same_bits(actual, expected.copy())
    assert torch.equal(crops, expected.crops)


@pytest.mark.parametrize("size", SIZES)
def test_the_operations_do_not_wait_for_the_device(device, size):
    step = Step(device, size)

    def run():
        step()
        key = {"seed": SEED, "identities": step.words, "step": step.counter}
        inject_noise(step.transparency, step.numbers[1], **key)

    for _ in range(3):
        run()
    torch.cuda.synchronize()
    asleep = torch.cuda.Event()
    torch.cuda._sleep(LONG)
    asleep.record()
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls this mode a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    finally:
        torch.cuda.set_sync_debug_mode(before)
    # torch sees its own waits alone; this one sees all.
    assert not asleep.query()
    torch.cuda.synchronize()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_on_a_device_that_is_not_the_current_one():
    def capability(index):
        return torch.cuda.get_device_capability(index)

    if not runs_on(capability(1), native_status().cuda_architectures):
        pytest.skip(f"fvfast has no CUDA kernels for compute capability {capability(1)}")
    device = torch.device("cuda", 1)
    with torch.cuda.device(1):
        expected = Step(device)
        expected()
    with torch.cuda.device(0):
        step = Step(device)
        step()
        assert torch.cuda.current_device() == 0
    assert step.crops.device == step.boxes.device == device
    assert_same_bits(step.copy(), expected.copy())
    assert torch.equal(step.crops, expected.crops)


@pytest.mark.parametrize("step", [0, 2**32 - 1])
def test_the_same_seed_gives_the_same_bits_everywhere(device, step):
    key = {"seed": SEED, "step": step}
    boxes = [
        draw_boxes(0.3, 999, identities=IDENTITIES, device=one, **key) for one in ("cpu", device)
    ]
    assert torch.equal(boxes[0], boxes[1].cpu())
    # On zeros it is a random integer times a power of two: exact, so all bits count.
    noise = [
        inject_noise(
            torch.zeros(2, 3, 31, 7, device=one),
            0.0,
            uniform_width=1.0,
            identities=IDENTITIES,
            **key,
        )
        for one in ("cpu", device)
    ]
    assert noise[0].unique().numel() > 200  # of 256
    assert torch.equal(noise[0], noise[1].cpu())


@pytest.fixture
def plain_convolutions(monkeypatch):
    """Convolutions in float32: those of cuDNN round their inputs to 10 bits (TF32)."""
    monkeypatch.setattr(torch.backends.cudnn, "enabled", False)


@pytest.mark.usefixtures("plain_convolutions")
@pytest.mark.parametrize("size", SIZES)
def test_a_run_is_the_same_as_on_the_cpu(network, size):
    def run(device):
        scores = []
        image, transparency = maco(
            Objective.neuron(network, -1, 3, input_shape=INPUT),
            nb_steps=3,
            nb_crops=4,
            custom_shape=size,
            device=device,
            callback=lambda report: scores.append(report.scores.cpu()),
            progress=False,
        )
        return torch.cat(scores), image, transparency

    for actual, expected in zip(run("cuda"), run("cpu"), strict=True):
        assert expected.abs().max() > 0
        # The CPU's kernels, its reference and the emulated CUDA kernels differ by up to 7e-6 here.
        # On a GPU the network's sums have another order, too: ten times that, and a margin.
        assert_close(actual, expected, 1e-4)


@pytest.mark.usefixtures("plain_convolutions")
def test_the_golden_run(golden):
    """Eight steps of maco with Xplique's own boxes and noise, as in test_golden_run.py."""
    phases, scores = [], []
    run = Run(
        objectives(golden, golden.model())["neuron_logit_3"],
        golden_settings(golden, phases, random_crops),
        callback=lambda report: scores.append(report.scores[0].cpu()),
        progress=False,
        device="cuda",
    )
    ascent = run.draw([0])
    image, transparency = ascent.images[-1][0], ascent.transparencies[-1][0]
    assert phases[0].is_cuda
    assert_close(torch.stack(scores), golden["run_scores"], 1e-3)
    assert_close(phases[0][0].detach().cpu(), golden["run_phase"], 1e-3)
    assert_close(image, golden["run_image"], 1e-3)
    assert_close(transparency, golden["run_alpha"], 1e-3)


class Spy:
    """Captures passes as usual, and counts replays."""

    def __init__(self):
        self.replays = 0

    def __call__(self, run, views):
        replay = capture_pass(run, views)

        def call(views):
            self.replays += 1
            return replay(views)

        return call


def run_of(network, capture=capture_pass, **settings):
    """Scores, image and transparency of a run."""
    run = Run(
        Objective.neuron(network, -1, 3, input_shape=INPUT),
        MacoSettings(nb_steps=8, nb_crops=4, custom_shape=SIZES[0], **settings),
        progress=False,
        device="cuda",
        forms=FormStore(CudaGraphs(capture=capture, capture_steps=None)),
    )
    ascent = run.draw([0])
    return ascent.scores[0], ascent.images[-1][0], ascent.transparencies[-1][0]


LUCENTS = {
    "text": "3:5",
    "own": lucent_objectives.channel_interpolate("3", 1, "labels", 2)
    - lucent_objectives.diversity("4")
    + lucent_objectives.direction("3", range(16)),
    "function": lambda T: T("input").std() - T("3")[:, 5].mean(),  # noqa: N803
}


@pytest.mark.usefixtures("plain_convolutions")
@pytest.mark.parametrize("name", LUCENTS)
def test_lucents_functions_are_the_same_as_on_the_cpu(network, name):
    start = torch.randn(3, 3, 20, 20)

    def drawn(device):
        values = start.to(device, copy=True).requires_grad_()
        (image,) = render.render_vis(
            copy.deepcopy(network).to(device), LUCENTS[name],
            lambda: ([values], lambda: values.sigmoid()),
            optimizer=lambda params: torch.optim.SGD(params, lr=1.0), transforms=[],
            thresholds=(EAGER_PASSES + 3,), fixed_image_size=20, progress=False, show_image=False,
        )  # fmt: skip
        return torch.from_numpy(image)

    moved = drawn("cpu") - start.sigmoid().permute(0, 2, 3, 1)
    assert moved.abs().max() > 1e-4
    assert_close(drawn("cuda") - start.sigmoid().permute(0, 2, 3, 1), moved, 1e-3)


@pytest.mark.parametrize("name", LUCENTS)
def test_passes_of_lucents_functions_are_replayed_from_a_graph(network, name):
    """Those of fvfast's own objectives; a function of the user has to run in each step."""
    network.cuda()
    spy = Spy()
    forms = FormStore(CudaGraphs(capture=spy))
    objective = lucent_objectives.as_objective(LUCENTS[name])
    images = torch.randn(3, 3, 20, 20, device="cuda").requires_grad_()
    with (
        borrowed(network),
        ObjectiveOnNetwork(network, LayerNames(network), objective, forms=forms) as on_network,
    ):
        for _ in range(8):
            on_network.minimize(images * 1, images)
    assert spy.replays == (0 if name == "function" else 1 + 8 - EAGER_PASSES)
    assert images.grad.isfinite().all()


def test_calls_are_timed_by_the_clock_of_the_device():
    sleeps = [functools.partial(torch.cuda._sleep, LONG // 2**factor) for factor in (7, 9)]
    longer, shorter = seconds_on_gpu(sleeps)
    assert 3 < longer / shorter < 5


@pytest.mark.usefixtures("plain_convolutions")
@pytest.mark.parametrize("precision", [None, "bfloat16", "float16", "auto"])
def test_epilogues_that_were_chosen_come_to_the_same(network, device, precision):
    network.to(device)
    objective = objective_of(network, "7")
    views = views_of(8).to(device)
    plan = plan_of(objective, precision, views=views)
    kinds = [epilogue.kind for epilogue in plan.epilogues if epilogue is not None]
    assert len(kinds) == 2
    if precision in ("bfloat16", "float16"):
        assert kinds == ["fvfast", "fvfast"]
    separate = dataclasses.replace(plan, epilogues=())
    # In float32 they differ by the order of the bias, at most; in 16 bits by their roundings.
    limit = 1e-5 if plan.form.dtype is None else 0.02
    for mine, its in zip(
        gradients(objective, plan, views), gradients(objective, separate, views), strict=True
    ):
        assert relative(mine, its) < limit


@pytest.mark.parametrize("precision", [None, "bfloat16", "float16"])
def test_passes_are_replayed_from_a_graph(network, monkeypatch, precision):
    monkeypatch.setenv("FVFAST_CUDA_GRAPH", "0")
    expected = run_of(network, precision=precision)
    monkeypatch.delenv("FVFAST_CUDA_GRAPH")
    spy = Spy()
    actual = run_of(network, spy, precision=precision)
    assert spy.replays == 1 + 8 - EAGER_PASSES
    for mine, its in zip(actual, expected, strict=True):
        # The same kernels in the same order; those that add atomically differ by rounding.
        assert_close(mine, its, 1e-4 if precision is None else 3e-2)


class StepSpy:
    """Captures steps as usual, and counts captures and replays."""

    def __init__(self):
        self.captures = self.replays = 0

    def __call__(self, steps, state):
        self.captures += 1
        replay = capture_steps(steps, state)

        def call():
            self.replays += 1
            replay()

        return call


@pytest.mark.parametrize("save_every", [None, 5])
@pytest.mark.parametrize("precision", [None, "bfloat16"])
def test_whole_steps_are_replayed_from_a_graph(network, precision, save_every):
    """Those of two batches, from one graph, as steps that the host takes."""
    spy = StepSpy()
    objective = Objective.neuron(network, -1, [1, 3, 4, 0], input_shape=INPUT)
    settings = MacoSettings(nb_steps=40, nb_crops=4, custom_shape=SIZES[0], precision=precision)
    recorded, plain = (
        Run(
            objective, settings, progress=False, device="cuda",
            forms=FormStore(CudaGraphs(capture_steps=capture)),
        )
        for capture in (spy, None)
    )  # fmt: skip
    for batch in ([0, 1], [2, 3]):
        found, expected = (run.draw(batch, save_every) for run in (recorded, plain))
        tolerance = 1e-3 if precision is None else 3e-2
        for name in ("images", "transparencies"):
            for mine, its in zip(getattr(found, name), getattr(expected, name), strict=True):
                assert_close(mine, its, tolerance)
        assert_close(found.scores, expected.scores, tolerance)
    assert spy.captures == 1
    assert spy.replays > 20
    assert recorded.how_steps_run == "replayed from a CUDA graph, two at once"


@pytest.mark.parametrize("precision", [None, "bfloat16"])
def test_the_host_waits_for_no_step(network, precision):
    def waits(nb_steps):
        run = Run(
            Objective.neuron(network, -1, [3, 4], input_shape=INPUT),
            MacoSettings(nb_steps=nb_steps, nb_crops=4, custom_shape=SIZES[0], precision=precision),
            progress=False,
            device="cuda",
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                run.draw([0, 1])
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return sum("synchronizing CUDA operation" in str(warning.message) for warning in caught)

    waits(40)  # what a first run sets up
    assert waits(40) == waits(100) > 0


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("method", METHODS)
def test_images_that_end_are_kept_as_if_the_host_had_looked_at_once(method, ending):
    ascents = Ascents(METHODS[method], ENDINGS[ending], device="cuda")
    for save_every in (None, 3):
        assert_same(ascents.run(None, save_every=save_every), ascents.run(1, save_every=save_every))


LOOKS = []  # sizes of inputs; not an attribute, which would come back as it was


class LooksAtItsInput(torch.nn.Module):
    """No graph can contain this: the host reads a number in each pass."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        # Before the network: what comes after the layer that is read does not run.
        LOOKS.append(len(x))
        return self.network(x * (1 if float(x.detach().abs().max()) >= 0 else 2))


def test_what_cannot_be_captured_runs_without_a_graph(network, monkeypatch):
    model = LooksAtItsInput(network).eval()
    spy = Spy()
    LOOKS.clear()
    actual = run_of(model, spy)
    assert LOOKS.count(4) >= 8
    assert spy.replays == 0
    assert CAPTURES.failure == ""  # the rehearsal found it
    assert torch.cuda.get_sync_debug_mode() == 0
    monkeypatch.setenv("FVFAST_CUDA_GRAPH", "0")
    for mine, its in zip(actual, run_of(model), strict=True):
        assert_close(mine, its, 1e-4)


def test_what_info_says(network):
    loaded = LoadedModel(network, "network", INPUT)
    rows = dict(describe_engine(loaded, torch.device("cuda", 0), None))
    assert rows["passes run"] == "replayed from a CUDA graph"
    assert rows["steps of MaCo run"] == "replayed from a CUDA graph, two at once"
    assert "TF32" in rows["float32"]


def test_a_failed_capture():
    """Last, and in a separate process, because torch does not fully recover from it."""
    script = Path(__file__).parent / "failed_capture.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
