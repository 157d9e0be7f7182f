"""Fixtures that the tests of fvfast.lucent share."""

import pytest
import torch
from lucent_runs import Inception


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Inception().eval()
