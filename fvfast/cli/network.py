"""Describes a network: what images it takes, and how the engine runs it."""

from collections.abc import Iterator

import torch

from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.compiled.kept import Wish
from fvfast.engine.compiled.trial import Compiler
from fvfast.engine.exact_float32 import tf32_settings
from fvfast.engine.graphs.cuda_graph import EAGER_PASSES
from fvfast.engine.graphs.repeated_steps import FIRST_REPLAY, STEPS_PER_GRAPH
from fvfast.engine.passes import Scorer
from fvfast.engine.precision import Precision
from fvfast.engine.rewrite.kept_forms import FormStore
from fvfast.engine.rewrite.plan import Plan, make_plan
from fvfast.engine.rewrite.trials import PROBE_VIEWS
from fvfast.engine.starting import running_engine
from fvfast.engine.taps import TappedModel
from fvfast.models import LoadedModel
from fvfast.objectives import Objective
from fvfast.ops.philox import Purpose, draw_normal
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.progress import teller
from fvfast.run.run import Run


def describe_network(loaded: LoadedModel) -> Iterator[tuple[str, str]]:
    """Yield names and values: the input and the classes."""
    low, high = loaded.values_range
    yield "network", f"{loaded.name} ({type(loaded.model).__name__})"
    yield "input (channels x height x width)", " x ".join(map(str, loaded.input_shape))
    yield "values_range", f"{low:g} to {high:g}"
    yield "preprocess", str(loaded.preprocess)
    categories = loaded.categories
    yield "named classes", "none" if categories is None else str(len(categories))


def describe_engine(
    loaded: LoadedModel,
    device: torch.device,
    precision: Precision,
    compiler: Compiler | None = None,
) -> list[tuple[str, str]]:
    """Return names and values: how the engine runs the network up to its last layer.

    Parameters
    ----------
    loaded
        The network.
    device, precision
        Where and how to run it.
    compiler
        What also compiles it; None: nothing.

    Raises
    ------
    ValueError
        The network does not run in this precision.
    """
    objective = Objective.layer(
        loaded.model, -1, input_shape=loaded.input_shape, preprocess=loaded.preprocess
    )
    low, high = loaded.values_range
    views = draw_normal(
        (PROBE_VIEWS, *loaded.input_shape), seed=0, purpose=Purpose.STATE, identities=[0]
    )
    views = (low + (high - low) * views.squeeze(0).sigmoid()).to(device)
    with torch.inference_mode(False), borrowed(loaded.model, device):
        tapped, scorer, names, _ = objective.compile()
        plan = make_plan(tapped, scorer, views, names[0], precision)
        rows = plan.describe()
        if compiler is not None:
            rows.append(describe_compiled(tapped, plan, scorer, views, names[0], compiler))
        if device.type == "cuda":
            rows.append(("passes run", describe_graph(tapped, plan, scorer, views, names[0])))
    if device.type == "cuda":
        rows.append(("steps of MaCo run", describe_steps(objective, loaded, device, precision)))
        rows.append(("float32", describe_float32()))
    return rows


def describe_compiled(
    tapped: TappedModel,
    plan: Plan,
    scorer: Scorer,
    views: torch.Tensor,
    name: str,
    compiler: Compiler,
) -> tuple[str, str]:
    """Compile a network, and say how much faster it is, or why it is left out.

    Parameters
    ----------
    tapped, plan, scorer, views, name
        See `describe_graph`.
    compiler
        What compiles.
    """
    wish = Wish(True, say=teller(progress=True), warns=False)
    with running_engine(
        tapped, plan, lambda _first, _last: scorer, name,
        runs_user_code=False, wish=wish, compiler=compiler,
    ) as engine:  # fmt: skip
        for _ in range(2):  # the first shows how many views run at once
            engine.gradients(views, 1)
        note = engine.compiled_note
    left_out = note.removeprefix("left out: ")
    if left_out != note:
        return "left out", f"compiled: {left_out}"
    return f"compiled, with {len(views)} views", note


def describe_graph(
    tapped: TappedModel, plan: Plan, scorer: Scorer, views: torch.Tensor, name: str
) -> str:
    """Say whether passes are replayed from a CUDA graph, or why not, by running a few.

    Parameters
    ----------
    tapped
        The network, frozen and in evaluation mode.
    plan
        How to run it.
    scorer
        Scores the outputs of one image's views; no function of the user.
    views
        (B, C, h, w), of one image.
    name
        Of the objective, for messages.
    """
    with running_engine(
        tapped, plan, lambda _first, _last: scorer, name, runs_user_code=False
    ) as engine:
        for _ in range(EAGER_PASSES):
            engine.gradients(views, 1)
        return engine.status


def describe_steps(
    objective: Objective,
    loaded: LoadedModel,
    device: torch.device,
    precision: Precision,
    forms: FormStore | None = None,
) -> str:
    """Say whether whole steps are replayed from a CUDA graph, or why not, by running a few.

    Parameters
    ----------
    objective
        One on the network; no function of the user.
    loaded
        The network.
    device, precision
        Where and how to run it.
    forms
        What captures steps. Default: a store of this run.
    """
    settings = MacoSettings(
        nb_steps=FIRST_REPLAY + 2 * STEPS_PER_GRAPH, nb_crops=PROBE_VIEWS, custom_shape=None,
        box_size=1.0, values_range=loaded.values_range, precision=precision,
    )  # fmt: skip
    run = Run(
        objective, settings, progress=False, device=device,
        forms=FormStore() if forms is None else forms,
    )  # fmt: skip
    run.draw([0])
    return run.how_steps_run


def describe_float32() -> str:
    """Say which float32 computations may use TF32 on NVIDIA GPUs."""
    return ", ".join(
        f"{name} {'may use TF32' if allowed else 'without TF32'}"
        for name, allowed in tf32_settings().items()
    )
