"""Philox4x32-10 against the known answers that its authors published with Random123."""

import pytest
import torch

from fvfast.ops._kernels import native_status
from fvfast.ops.philox import philox4x32

ONES = 0xFFFFFFFF
KNOWN_ANSWERS = [
    pytest.param(
        (0, 0, 0, 0),
        (0, 0),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        id="zeros",
    ),
    pytest.param(
        (ONES, ONES, ONES, ONES),
        (ONES, ONES),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        id="ones",
    ),
    pytest.param(
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        id="digits of pi",
    ),
]

pytestmark = pytest.mark.cpu_only


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_reference_gives_the_known_answers(counter, key, expected):
    words = philox4x32([torch.tensor(word) for word in counter], key)
    assert tuple(word.item() for word in words) == expected


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
@pytest.mark.skipif(not native_status().available, reason="the native module is not built")
def test_native_module_gives_the_known_answers(counter, key, expected):
    from fvfast import _C

    assert tuple(_C.philox_words(counter, key)) == expected
