"""What several files of tests share: the test kernels, compiled for the CPU."""

import pytest

from cuda_emulator.build import UnavailableError, build_programs
from cuda_emulator.case_programs import FOLDER, KERNELS, Library


@pytest.fixture(scope="session")
def programs():
    """The folder of programs and libraries, which are built again where something has changed."""
    try:
        build_programs(sorted(KERNELS.glob("*.cu")), FOLDER, ["plain", "address", "thread"])
    except UnavailableError as reason:
        pytest.skip(str(reason))
    return FOLDER


@pytest.fixture(scope="session")
def library(programs):
    """All cases, without a sanitizer."""
    return Library(programs / "plain/library.so")
