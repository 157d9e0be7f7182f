"""What the tests of the engine share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Waiting for a second thread takes longer than these networks."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
