"""What a whole step launches around the network."""

import sys
import types
from pathlib import Path

import pytest
import torch
from emulated import emulated, kernel_threads
from engine.whole_runs import INPUT, STEPS
from injected_runs import InjectedSettings
from living_memory import LivingMemory
from torch.utils._python_dispatch import TorchDispatchMode

import fvfast.ops
from fvfast.ops._kernels import use_emulated
from fvfast.ops.boxes import draw_boxes
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.whole_step import WholeStep


class Operations(TorchDispatchMode):
    """Names the operations that run, also within those of fvfast, except in checks of arguments.

    Checks read numbers, where they lie on the CPU; on a GPU they do not.
    """

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not in_a_check():
            self.names.append(func.name())
        if func.namespace != "fvfast":
            return func(*args, **(kwargs or {}))
        with self:  # torch switches the mode off within an operation
            cpu = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
            return func.redispatch(cpu, *args, **(kwargs or {}))


def in_a_check():
    """Whether a function of fvfast's that checks arguments is at work."""
    frame = sys._getframe()
    while frame is not None:
        name, file = frame.f_code.co_name, Path(frame.f_code.co_filename)
        if name.lstrip("_").startswith("check_") and file.parent == CHECKS:
            return True
        frame = frame.f_back
    return False


CHECKS = Path(fvfast.ops.__file__).parent
# They launch nothing.
VIEWS_AND_MEMORY = {
    "aten::detach", "aten::alias", "aten::view", "aten::empty.memory_format", "aten::new_empty",
    "aten::empty_like", "aten::empty_strided", "aten::promote_types", "aten::resolve_neg",
    "aten::resolve_conj",
}  # fmt: skip


def step_of(made):
    """A step of three images, with a network that does nothing."""
    phase = made.parametrize((3, 16, 20), progress=False)([1, 2, 3], torch.device("cpu"))
    step = WholeStep(phase, made.views((3, 16, 20), INPUT[1:]), made)
    scores, cotangent = torch.ones(3), torch.ones(3 * made.nb_crops, *INPUT)
    engine = types.SimpleNamespace(views_dtype=torch.float32, views_format=torch.contiguous_format)
    step.begin(phase, [1, 2, 3], lambda _views: (scores, cotangent), engine)
    return step


def operations_of(step):
    """Those of two steps that are not the first, and how many kernels these launch."""
    step(0)
    _, before = kernel_threads()
    with Operations() as operations:
        step(1, 2)
    ours = [name.split("::")[1] for name in operations.names if name.startswith("fvfast")]
    others = {name for name in operations.names if not name.startswith("fvfast")}
    return ours, others, kernel_threads()[1] - before


@pytest.mark.parametrize("nb_crops", [1, 2, 8])
@pytest.mark.parametrize("preset", ["xplique", "fast"])
def test_around_the_network_a_step_is_eight_launches(preset, nb_crops):
    """And no operation of torch, nor does it read a number, for which the host would wait."""
    made = MacoSettings.with_preset(preset=preset, **{**STEPS, "nb_crops": nb_crops})
    with emulated("emulated ascending"):
        step = step_of(made)
        before = step.state()[0].clone()
        ours, others, launches = operations_of(step)
    assert launches == 2 * 8
    assert others <= VIEWS_AND_MEMORY
    around = ["phase_to_image", "crop_resize", "crop_gradient", "phase_step_", "end_step_"]
    assert ours == 2 * around
    assert step.record.step.item() == 3
    assert not torch.equal(step.state()[0], before)


def boxes_that_wait(box_size, *arguments, step, **settings):
    return draw_boxes(float(box_size[int(step)]), *arguments, step=step, **settings)


def test_a_step_that_waits_and_launches_more_is_found():
    made = InjectedSettings(**STEPS, crops={"draw": boxes_that_wait})
    with emulated("emulated ascending"):
        ours, others, launches = operations_of(step_of(made))
    assert ours.count("draw_boxes") == 2
    assert "aten::_local_scalar_dense" in others
    assert launches == 2 * 9


def test_kernels_of_a_step_get_memory_that_is_kept():
    with emulated("emulated ascending") as module:
        watched = LivingMemory(module)
        with use_emulated(watched):
            step_of(MacoSettings(**STEPS))(0, 2)
    assert watched.checked > 2 * 5
