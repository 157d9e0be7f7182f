"""What a whole step launches around the network."""

import types

import pytest
import torch
from emulated import emulated, kernel_threads
from engine.whole_runs import INPUT, STEPS
from torch.utils._python_dispatch import TorchDispatchMode

from fvfast.run.maco_settings import MacoSettings
from fvfast.run.whole_step import WholeStep


class Operations(TorchDispatchMode):
    """Names the operations that run, also within those of fvfast."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        if func.namespace != "fvfast":
            return func(*args, **(kwargs or {}))
        with self:  # torch switches the mode off within an operation
            cpu = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
            return func.redispatch(cpu, *args, **(kwargs or {}))


# Checks read numbers, where they lie on the CPU; on a GPU they do not.
CHECKS = {"aten::item", "aten::aminmax", "aten::select.int", "aten::_local_scalar_dense"}
# They launch nothing.
VIEWS_AND_MEMORY = {
    "aten::detach", "aten::alias", "aten::view", "aten::empty.memory_format", "aten::new_empty",
    "aten::empty_like", "aten::empty_strided", "aten::promote_types", "aten::resolve_neg",
    "aten::resolve_conj",
}  # fmt: skip


@pytest.mark.parametrize("nb_crops", [1, 2, 8])
@pytest.mark.parametrize("preset", ["xplique", "fast"])
def test_around_the_network_a_step_is_eight_launches(preset, nb_crops):
    """And no operation of torch; a network that does nothing shows it."""
    made = MacoSettings.with_preset(preset=preset, **{**STEPS, "nb_crops": nb_crops})
    with emulated("emulated ascending"):
        phase = made.parametrize((3, 16, 20), progress=False)([1, 2, 3], torch.device("cpu"))
        step = WholeStep(phase, made.views((3, 16, 20), INPUT[1:]), made)
        scores, cotangent = torch.ones(3), torch.ones(3 * nb_crops, *INPUT)
        engine = types.SimpleNamespace(
            views_dtype=torch.float32, views_format=torch.contiguous_format
        )
        step.begin(phase, [1, 2, 3], lambda _views: (scores, cotangent), engine)
        step(0)
        before = step.state()[0].clone()
        _, launches = kernel_threads()
        with Operations() as operations:
            step(1, 2)
        assert kernel_threads()[1] - launches == 2 * 8
    others = {name for name in operations.names if name.startswith("aten")}
    assert others <= VIEWS_AND_MEMORY | CHECKS
    ours = [name.split("::")[1] for name in operations.names if name.startswith("fvfast")]
    around = ["phase_to_image", "crop_resize", "crop_gradient", "phase_step_", "end_step_"]
    assert ours == 2 * around
    assert step.record.step.item() == 3
    assert not torch.equal(step.state()[0], before)
