"""Changes one argument of an operation: into one that does not fit, or that is only unusual.

A change says whether the argument still has the values that it had.
"""

import math
import random
from collections.abc import Callable
from typing import Any

import torch
from operation_cases import Arguments

# None that a machine has the memory for, and none that it could be busy with for minutes.
LONG = 2**24 + 1
COUNTS = [-1, 0, 1, LONG, 2**40, 2**63 - 1, -(2**63)]
FLOATS = [math.nan, math.inf, -math.inf, -1.0, 0.0, 1.0, 1e308, -1e308, 1e-320]
OBJECTS = [None, "1", 1.5, b"1", {}, object(), [[]], torch.zeros(2), 2**64, 2**100]
DTYPES = [
    *(torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.float8_e5m2),
    *(torch.int8, torch.int64, torch.bool, torch.complex64, torch.complex128, torch.uint16),
]
# Torch takes a second to find out that there is no GPU.
DEVICES = [*["meta", "cpu:3"] * 20, "cuda", "cuda:9", "xpu", "mps"]
OPTIONAL = {
    *("counter", "box_size_table", "std_table", "uniform_width_table", "identity_table", "rates"),
    *("transparency", "phase_sums", "bias", "term", "limits", "running", "flags", "boxes"),
}


def resized(rng: random.Random, tensor: torch.Tensor) -> torch.Tensor:
    """The same type with another shape."""
    shape = list(tensor.shape)
    kind = rng.choice(["more", "fewer", "one", "none", "longer", "flat", "added", "removed"])
    if kind in ("more", "fewer", "none", "longer") and shape:
        place = rng.randrange(len(shape))
        changed = {
            "more": shape[place] + 1,
            "fewer": max(shape[place] - 1, 0),
            "none": 0,
            "longer": 3 * shape[place] + 2,
        }
        shape[place] = changed[kind]
    elif kind == "flat":
        shape = [tensor.numel()]
    elif kind == "added":
        shape.insert(rng.randint(0, len(shape)), rng.choice([1, 1, 2]))
    elif kind == "removed":
        shape = shape[1:]
    else:
        shape = [1] * rng.randint(0, 4)
    return torch.ones(shape, dtype=tensor.dtype)


def expanded(rng: random.Random, tensor: torch.Tensor) -> torch.Tensor:
    """Elements that share memory along an axis, which may be longer than any memory."""
    if tensor.ndim == 0 or 0 in tensor.shape:
        return tensor
    place = rng.randrange(tensor.ndim)
    shape = list(tensor.shape)
    if rng.random() < 0.3:
        shape[place] = 2**40
    return tensor.narrow(place, 0, 1).expand(shape)


def overlapping(rng: random.Random, tensor: torch.Tensor) -> torch.Tensor:
    """Strides that are too small for the sizes."""
    strides = [rng.randint(0, max(stride, 1)) for stride in tensor.stride()]
    return tensor.contiguous().as_strided(tensor.shape, strides)


def strided(rng: random.Random, tensor: torch.Tensor) -> torch.Tensor:
    """The same values in another order, or with gaps."""
    order = list(range(tensor.ndim))
    rng.shuffle(order)
    gap = rng.choice([1, 1, 2, 3])
    strides, step = [0] * tensor.ndim, gap
    for axis in order:
        strides[axis] = step
        step *= max(tensor.shape[axis], 1)
    base = torch.zeros(max(step, 1) + 3, dtype=tensor.dtype)
    return base.as_strided(tensor.shape, strides, rng.choice([0, 3])).copy_(tensor)


def negated(tensor: torch.Tensor) -> torch.Tensor:
    """The same values, negated when they are read; conjugated where they are complex."""
    if tensor.is_complex():
        return tensor.conj().resolve_conj().conj()
    if tensor.is_floating_point() and tensor.dtype.itemsize > 1:
        return torch._neg_view(-tensor)
    return tensor


def misaligned(tensor: torch.Tensor) -> torch.Tensor:
    """The same values at an address that is odd."""
    if not tensor.numel():
        return tensor
    values = tensor.resolve_neg().resolve_conj().reshape(-1).contiguous().view(torch.uint8)
    memory = bytearray(b"\0" + values.numpy().tobytes())
    return torch.frombuffer(memory, dtype=tensor.dtype, offset=1).view(tensor.shape)


def shrunk(rng: random.Random, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that has lost the end of its storage, or all of it."""
    tensor = tensor.clone()
    storage = tensor.untyped_storage()
    storage.resize_(rng.choice([0, storage.nbytes() // 2, max(storage.nbytes() - 1, 0)]))
    return tensor


def wild(rng: random.Random, tensor: torch.Tensor) -> torch.Tensor:
    """Numbers that are not finite, or very large."""
    tensor = tensor.clone(memory_format=torch.contiguous_format)
    if tensor.dtype in (torch.bool, torch.int32):
        return tensor.fill_(rng.choice([0, -1, 2**31 - 1]))
    if tensor.numel() and tensor.dtype != torch.int64:
        place = rng.randrange(tensor.numel())
        tensor.view(-1)[place] = rng.choice([math.nan, math.inf, -math.inf, 6e4, -6e4])
    elif tensor.numel():
        tensor.fill_(rng.choice([-1, -(2**63), 2**63 - 1, 2**32]))
    return tensor


def foreign(rng: random.Random, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of another kind: of another device, without strides, or without memory."""
    kind = rng.choice(["meta", "sparse", "zero", "mkldnn", "quantized", "csr"])
    if kind == "meta":
        return tensor.to("meta")
    if kind == "zero":
        return torch._efficientzerotensor(tensor.shape, dtype=tensor.dtype)
    if kind == "sparse" or tensor.dtype != torch.float32:
        # Torch does not look for the zeros of all types.
        can_be_sparse = tensor.ndim and tensor.dtype not in (torch.uint16, torch.float8_e5m2)
        return tensor.to_sparse() if can_be_sparse else tensor.to("meta")
    if kind == "mkldnn" and tensor.numel():
        return tensor.to_mkldnn()
    if kind == "csr" and tensor.ndim >= 2 and tensor.numel():
        return torch.zeros(3, 4).to_sparse_csr()
    return torch.quantize_per_tensor(tensor, 0.1, 0, torch.quint8)


def shared(rng: random.Random, arguments: Arguments, name: str) -> bool:
    """Let two arguments have the same memory. Returns whether they have the values they had."""
    tensor = arguments[name]
    others = [key for key, value in arguments.items() if isinstance(value, torch.Tensor)]
    key = rng.choice(others)
    other = arguments[key]
    kind = rng.choice(["same", "view", "beside"])
    alike = other.dtype == tensor.dtype
    if kind == "beside" and alike and other.shape == tensor.shape and key != name:
        # Every second element of the same memory, which is nobody else's.
        pair = torch.stack((other, tensor), -1)
        arguments[key], arguments[name] = pair.unbind(-1)
        return True
    arguments[name] = other
    if kind == "view" and alike and other.is_contiguous() and other.numel() >= tensor.numel():
        arguments[name] = other.view(-1)[: tensor.numel()].view(tensor.shape)
    return key == name


def change_tensor(rng: random.Random, arguments: Arguments, name: str) -> tuple[str, bool]:
    """Change a tensor. Returns how, and whether its values are as before."""
    tensor = arguments[name]
    kind = rng.choice(
        ["resized", "resized", "resized", "type", "expanded", "overlapping", "strided", "strided",
         "negated", "misaligned", "shrunk", "wild", "foreign", "shared", "shared", "object"]
    )  # fmt: skip
    if kind == "shared":
        return kind, shared(rng, arguments, name)
    makers: dict[str, Callable[[random.Random, torch.Tensor], Any]] = {
        "resized": resized,
        "type": lambda rng, tensor: tensor.to(rng.choice(DTYPES)),
        "expanded": expanded,
        "overlapping": overlapping,
        "strided": strided,
        "negated": lambda _, tensor: negated(tensor),
        "misaligned": lambda _, tensor: misaligned(tensor),
        "shrunk": shrunk,
        "wild": wild,
        "foreign": foreign,
        "object": lambda rng, _: rng.choice(OBJECTS),
    }
    arguments[name] = makers[kind](rng, tensor)
    return kind, kind in ("strided", "negated", "misaligned")


def change_list(rng: random.Random, value: list[Any]) -> Any:
    changed = list(value)
    if changed:
        changed[rng.randrange(len(changed))] = rng.choice([*COUNTS, 2**32, None, "1", 0.5])
    return rng.choice([[], value[:-1], [*value, 1], changed, changed])


def change_one(rng: random.Random, arguments: Arguments) -> tuple[str, str, bool]:
    """Change one argument. Returns its name, the change, and whether its values are as before."""
    name = rng.choice(list(arguments))
    value = arguments[name]
    kind, same = "other", False
    if isinstance(value, torch.Tensor):
        kind, same = change_tensor(rng, arguments, name)
    elif rng.random() < 0.1 and not isinstance(value, torch.device):
        kind, arguments[name] = "object", rng.choice(OBJECTS)
    elif isinstance(value, bool):
        arguments[name] = not value
    elif isinstance(value, int):
        changed = rng.choice([*COUNTS, value + 1, value - 1, value + 2**32])
        # So many boxes could be drawn, in a second.
        arguments[name] = 2**32 + 1 if (name, changed) == ("nb_crops", LONG) else changed
    elif isinstance(value, float):
        arguments[name] = rng.choice(FLOATS)
    elif isinstance(value, str):
        arguments[name] = rng.choice(["", "cauchy", value.upper(), value + "\0", "normal" * 1000])
    elif isinstance(value, torch.dtype):
        arguments[name] = rng.choice(DTYPES)
    elif isinstance(value, torch.device):
        # What is no device at all, torch refuses before it calls anything.
        arguments[name] = torch.device(rng.choice(DEVICES))
    elif isinstance(value, list):
        arguments[name] = change_list(rng, value)
    elif isinstance(value, tuple):
        arguments[name] = tuple(rng.choice([*FLOATS, *COUNTS]) for _ in value)
    elif name not in OPTIONAL:
        arguments[name] = rng.choice(COUNTS)
    else:
        arguments[name] = rng.choice(
            [torch.ones(1), torch.tensor(3), torch.tensor([3, 4]), torch.tensor(3, device="meta"),
             torch.ones(2, 1, 2, dtype=torch.float64), torch.ones(1).to_sparse(), (1.0, 0.0)]
        )  # fmt: skip
    return name, kind, same
