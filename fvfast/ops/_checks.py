"""Checks of the arguments of operations, which cost next to no time at each call.

A kernel trusts its arguments: these checks are what keeps it inside their memory.
Every message reads ``operation(): argument: expected ..., got ...``.
"""

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import torch

WORD = 2**32
LARGEST_FLOAT32 = float(torch.finfo(torch.float32).max)
REAL = (torch.float32, torch.float64)
FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

_MOST_ELEMENTS = 2**48  # of a tensor, as in the native module
_MOST_NUMBERED = 2**34  # elements of an image: four share a 32-bit word of the counter


def reject(
    operation: str, argument: str, expected: str, got: Any, error: type[Exception] = ValueError
) -> NoReturn:
    """Raise an error that names the operation and the argument, what was expected and given."""
    raise error(f"{operation}(): {argument}: expected {expected}, got {got}")


def require_tensor(operation: str, argument: str, value: Any) -> None:
    """Raise TypeError unless a value is a tensor."""
    if not isinstance(value, torch.Tensor):
        reject(operation, argument, "a tensor", type(value).__name__, TypeError)


def check_type(
    operation: str, argument: str, tensor: torch.Tensor, dtypes: Sequence[torch.dtype]
) -> None:
    """Raise TypeError unless a tensor is strided and of one of some types."""
    if tensor.dtype not in dtypes:
        reject(operation, argument, " or ".join(map(str, dtypes)), tensor.dtype, TypeError)
    check_layout(operation, argument, tensor)


def check_layout(operation: str, argument: str, tensor: torch.Tensor) -> None:
    """Raise TypeError unless a tensor has strides."""
    if tensor.layout is not torch.strided:
        reject(operation, argument, "a dense tensor with strides", tensor.layout, TypeError)


def check_alike(
    operation: str,
    argument: str,
    tensor: torch.Tensor,
    shape: Sequence[int],
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    """Raise TypeError or ValueError unless a tensor has a shape, a type and a device."""
    if tensor.shape == shape and tensor.dtype == dtype and tensor.device == device:
        check_layout(operation, argument, tensor)
        return
    reject(
        operation,
        argument,
        f"{dtype} {tuple(shape)} on {device}",
        f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}",
        ValueError if tensor.dtype == dtype else TypeError,
    )


def check_per_image(
    operation: str,
    argument: str,
    tensor: torch.Tensor,
    images: int,
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    """Raise TypeError or ValueError unless a tensor has a number for each image."""
    check_alike(operation, argument, tensor, torch.Size((images,)), dtype, device)


def check_scale(operation: str, argument: str, value: float) -> None:
    """Raise ValueError unless a number is finite and not negative."""
    if not (math.isfinite(value) and value >= 0):
        reject(operation, argument, "a finite number >= 0", value)


def check_finite(operation: str, argument: str, value: float) -> None:
    """Raise ValueError unless a number is finite."""
    if not math.isfinite(value):
        reject(operation, argument, "a finite number", value)


def check_float32(operation: str, argument: str, value: float) -> None:
    """Raise ValueError unless a number is finite in float32."""
    if not abs(value) <= LARGEST_FLOAT32:
        reject(operation, argument, "a finite number of float32", value)


def check_decay(operation: str, argument: str, value: float) -> None:
    """Raise ValueError unless a number is the decay of an average, in [0, 1)."""
    if not 0 <= value < 1:
        reject(operation, argument, "a number in [0, 1)", value)


def check_range(operation: str, argument: str, low: float, high: float) -> None:
    """Raise ValueError unless low < high, and both and their difference are finite in float32."""
    if not (-LARGEST_FLOAT32 <= low < high <= LARGEST_FLOAT32 and high - low <= LARGEST_FLOAT32):
        expected = "finite numbers low < high, with a finite difference in float32"
        reject(operation, argument, expected, (low, high))


def check_limits(operation: str, limits: Sequence[float], dtype: torch.dtype) -> None:
    """Raise ValueError unless there are two limits in order, each infinite or of a type."""
    largest = torch.finfo(dtype).max
    if not (
        len(limits) == 2
        and all(math.isinf(limit) or abs(limit) <= largest for limit in limits)
        and limits[0] <= limits[1]
    ):
        expected = f"a lower limit and an upper one of {dtype}"
        reject(operation, "limits", expected, tuple(limits))


def check_elements(operation: str, argument: str, sizes: Sequence[int]) -> None:
    """Raise ValueError if a tensor of some sizes would have more elements than kernels address."""
    if math.prod(sizes) > _MOST_ELEMENTS:
        reject(operation, argument, "sizes of at most 2^48 elements", tuple(sizes))


def check_numbered(operation: str, argument: str, elements: int) -> None:
    """Raise ValueError if an image has more elements than the noise has numbers for."""
    if elements > _MOST_NUMBERED:
        reject(operation, argument, "at most 2^34 elements per image, for noise", elements)


def check_words(operation: str, argument: str, words: Sequence[int], count: int) -> None:
    """Raise ValueError unless there is a 32-bit word for each image."""
    if len(words) != count:
        reject(operation, argument, f"{count} integers, one for each image", len(words))
    for word in words:
        if not 0 <= word < WORD:
            reject(operation, argument, "integers in [0, 2^32)", word)


def check_step(
    operation: str, step: int, counter: torch.Tensor | None, device: torch.device
) -> None:
    """Raise ValueError unless a step is a 32-bit word, and its counter a number on the device."""
    if not 0 <= step < WORD:
        reject(operation, "step", "an integer in [0, 2^32)", step)
    check_counter(operation, counter, device)


def check_counter(operation: str, counter: torch.Tensor | None, device: torch.device) -> None:
    """Raise ValueError unless a counter, if any, is a number on the device."""
    if counter is None:
        return
    if counter.dtype != torch.int64 or counter.numel() != 1:
        got = f"{counter.dtype} {tuple(counter.shape)}"
        reject(operation, "counter", "a torch.int64 tensor of one element", got)
    check_layout(operation, "counter", counter)
    check_device(operation, "counter", counter, device)


def check_device(operation: str, argument: str, tensor: torch.Tensor, device: torch.device) -> None:
    """Raise ValueError unless a tensor lies on a device, of which the index may be left open."""
    if tensor.device.type != device.type or device.index not in (None, tensor.device.index):
        reject(operation, argument, f"a tensor on {device}", f"one on {tensor.device}")


def check_sum(operation: str, step: int, counter: torch.Tensor | None) -> None:
    """Raise ValueError unless step and counter add up to a 32-bit word, where that can be read.

    On the CPU it can. Elsewhere the host would have to wait for it.
    """
    if counter is not None and counter.device.type == "cpu":
        total = step + int(counter.item())
        if not 0 <= total < WORD:
            reject(operation, "counter", "an integer in [0, 2^32) with the step", total)
