"""Operations keep the memory that they give to the kernels until these have been called."""

import pytest
import torch
from living_memory import LivingMemory
from ops.test_direct_calls import OPERATIONS

from fvfast.ops._kernels import kernels_for, use_emulated
from fvfast.ops._memory import buffer


@pytest.fixture
def module(backend):
    if not backend.startswith("emulated"):
        pytest.skip("the module in use can be replaced on the CPU alone, by another emulated one")
    return kernels_for(torch.device("cpu")).module


@pytest.mark.parametrize("operation", OPERATIONS)
def test_kernels_get_memory_that_is_kept(module, operation):
    arguments = OPERATIONS[operation]()
    watched = LivingMemory(module)
    with use_emulated(watched):
        getattr(torch.ops.fvfast, operation)(*arguments.values())
    if operation != "winograd_convolution":  # which CUDA has not
        assert watched.checked > 0


def test_memory_that_was_given_back_is_found(module):
    lost = buffer(torch.zeros(99))
    kept = torch.zeros(99)
    watched = LivingMemory(module)
    with pytest.raises(AssertionError, match="phase_update: the memory of unfinished has been"):
        watched.phase_update(phase=buffer(kept), unfinished=(lost, (8, 9), [1, 2], 1e-5))
    assert watched.checked == 2
