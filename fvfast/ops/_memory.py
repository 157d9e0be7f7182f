"""Checks of the memory of arguments: that all of it exists, and that what is written is apart."""

from collections.abc import Sequence

import torch

from fvfast.ops._checks import reject

Named = tuple[str, torch.Tensor | None]
_Range = tuple[str, torch.Tensor, int, int]


def buffer(tensor: torch.Tensor | None) -> tuple[int, int]:
    """Return the memory of a tensor as the native module takes it.

    Returns
    -------
    address
        0 without a tensor.
    elements
        That lie there: as many as the tensor has, or to the end of its storage where it has gaps.
        A complex number has two.
    """
    if tensor is None:
        return 0, 0
    stored = tensor.untyped_storage().nbytes() // tensor.element_size()
    available = stored - tensor.storage_offset()
    if tensor.is_contiguous():
        available = min(available, tensor.numel())
    return tensor.data_ptr(), int(available) * (2 if tensor.is_complex() else 1)


def check_memory(operation: str, written: Sequence[Named], read: Sequence[Named]) -> None:
    """Raise ValueError unless all elements exist, and none that is written to is shared.

    Parameters
    ----------
    operation
        For messages.
    written, read
        Names and tensors, or None where there is none.
    """
    written_ranges = [
        _range(operation, name, tensor) for name, tensor in written if tensor is not None
    ]
    read_ranges = [_range(operation, name, tensor) for name, tensor in read if tensor is not None]
    for number, one in enumerate(written_ranges):
        check_own_memory(operation, *one[:2])
        for other in (*written_ranges[:number], *read_ranges):
            if one[2] < other[3] and other[2] < one[3] and _meet(one, other):
                expected = f"memory apart from that of {other[0]}"
                reject(operation, one[0], expected, "memory that overlaps")


def check_own_memory(operation: str, argument: str, tensor: torch.Tensor) -> None:
    """Raise ValueError unless each element of a tensor has memory of its own."""
    if tensor.is_contiguous() or _rises(tensor):
        return
    strides = tensor.stride()
    expanded = any(
        size > 1 and stride == 0 for size, stride in zip(tensor.shape, strides, strict=True)
    )
    if expanded or not _is_distinct(tensor):
        kind = "an expanded tensor" if expanded else "a tensor whose elements overlap"
        expected = "elements with memory of their own"
        reject(operation, argument, expected, f"{kind} with strides {strides}")


def _span(tensor: torch.Tensor) -> int:
    """Count the elements from the first to the last of a tensor."""
    if tensor.is_contiguous() or tensor.numel() == 0:
        return tensor.numel()
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    return 1 + sum((size - 1) * stride for size, stride in pairs)


def _range(operation: str, argument: str, tensor: torch.Tensor) -> _Range:
    """Check that a tensor lies in its storage; return the addresses where it begins and ends."""
    span = _span(tensor)
    if span == 0:
        return argument, tensor, 0, 0
    item = tensor.element_size()
    needed = (tensor.storage_offset() + span) * item
    available = tensor.untyped_storage().nbytes()
    if needed > available:
        expected = f"a storage of {needed} bytes or more"
        reject(operation, argument, expected, f"{available} bytes")
    begin = tensor.data_ptr()
    if begin % (item // 2 if tensor.is_complex() else item):
        reject(operation, argument, f"an address aligned to {tensor.dtype}", hex(begin))
    return argument, tensor, begin, begin + span * item


def _rises(tensor: torch.Tensor) -> bool:
    """Whether each stride is larger than the span of all smaller ones: then nothing is shared."""
    reached = 1
    pairs = zip(tensor.stride(), tensor.shape, strict=True)
    for stride, size in sorted(pair for pair in pairs if pair[1] > 1):
        if stride < reached:
            return False
        reached += (size - 1) * stride
    return True


def _touch(touched: torch.Tensor, tensor: torch.Tensor, begin: int) -> torch.Tensor:
    """View the entries of `touched`, one for each byte of memory, that a tensor covers."""
    item = tensor.element_size()
    strides = [stride * item for stride in tensor.stride()]
    return touched.as_strided((*tensor.shape, item), (*strides, 1), begin)


def _is_distinct(tensor: torch.Tensor) -> bool:
    """Whether no two elements share memory, for strides that are not 0."""
    span, item = _span(tensor), tensor.element_size()
    touched = torch.zeros(span * item, dtype=torch.bool, device="cpu")
    _touch(touched, tensor, 0).fill_(True)
    return int(touched.sum()) == tensor.numel() * item


def _meet(one: _Range, other: _Range) -> bool:
    """Whether two tensors whose ranges of memory overlap share an element."""
    if one[1].is_contiguous() and other[1].is_contiguous():
        return True
    begin, end = min(one[2], other[2]), max(one[3], other[3])
    touched = torch.zeros(end - begin, dtype=torch.bool, device="cpu")
    _touch(touched, one[1], one[2] - begin).fill_(True)
    return bool(_touch(touched, other[1], other[2] - begin).any())
