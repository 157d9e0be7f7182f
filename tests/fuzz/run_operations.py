"""Calls every operation of ``torch.ops.fvfast``, and Winograd convolutions, with random arguments.

    python tests/fuzz/run_operations.py MODULE COUNT PROGRESS [OPERATION [NUMBER]]

A module with CUDA kernels is one that emulates them: it takes tensors of the CPU for those of CUDA.

In most calls one or two arguments are changed. A call either raises an error that names the
operation and an argument, or returns what the reference returns. A crash is for AddressSanitizer to
report: the file PROGRESS then names the call, which OPERATION and NUMBER repeat alone.
"""

import collections
import contextlib
import json
import os
import random
import sys
import time
import zlib
from collections.abc import Sequence
from typing import Any

import torch
from operation_breaks import change_one
from operation_cases import CASES, Arguments
from run import choose_device, has_cuda, load

# Changes that leave a tensor with which torch itself must not go on.
FINAL = {"shrunk", "expanded", "overlapping", "foreign", "object"}
REFUSALS = (ValueError, TypeError, RuntimeError)
# What the way to the image made, and what it made it from: the way back needs all as they were.
DERIVED = {"phase", "magnitude", "image", "spectrum", "statistics", "phase_sums", "low", "high"}
NEEDS_DERIVED = {"phase_to_image", "phase_to_image_backward", "phase_ascent_", "phase_step_"}
# Largest differences of values, of the largest value. Kernels and references round elsewhere.
TOLERANCE = {torch.bfloat16: 0.02, torch.float16: 3e-3, torch.float32: 1e-3}
EXACT = 1e-6


def operations() -> set[str]:
    """The names of all operations."""
    schemas = torch._C._jit_get_all_schemas()
    found = {schema.name for schema in schemas if schema.name.startswith("fvfast::")}
    return {name.removeprefix("fvfast::") for name in found}


def call(name: str, arguments: Arguments) -> Any:
    return getattr(torch.ops.fvfast, name)(*arguments.values())


def as_declared(name: str, arguments: Arguments) -> list[Any]:
    """The values as torch hands them to an operation: a float where its schema says so."""
    return [
        float(value) if key in fractions_of(name) and isinstance(value, int) else value
        for key, value in arguments.items()
    ]


def reference(name: str, arguments: Arguments) -> Any:
    """Compute the results with PyTorch alone; phases and gradients in float64."""
    from fvfast.ops import _tables, boxes, phase_step, philox, winograd

    if name == "winograd_convolution":
        images, weight, bias, *_ = arguments.values()
        others = {key: arguments[key] for key in ("outputs", "padding", "term", "limits")}
        return winograd.winograd_convolution_reference(images, weight, bias, **others)
    if name == "draw_boxes":  # which chooses between kernel and reference itself
        box_size, nb_crops, *distribution, seed, identities, step, counter, sides, words, device = (
            as_declared(name, arguments)
        )
        return boxes.draw_boxes_reference(
            _tables.current_number(box_size, sides, counter), nb_crops, seed=seed,
            identities=identities if words is None else words, device=device,
            step=philox.whole_step(step, counter),
            distribution=boxes.BoxDistribution(*distribution),
        )  # fmt: skip
    if name == "phase_step_":  # without kernels, sums have a single part
        arguments["sums"] = arguments["sums"][:, :1].clone()
        return phase_step._reference(*as_declared(name, arguments))
    # What the operation has for devices without kernels.
    operation = getattr(torch.ops.fvfast, name).default
    return operation._op_dk(torch._C.DispatchKey.CompositeExplicitAutograd, *arguments.values())


def independent(arguments: Arguments) -> Arguments:
    """The same values in memory of their own, contiguous."""
    return {
        name: value.detach()
        .resolve_neg()
        .resolve_conj()
        .clone(memory_format=torch.contiguous_format)
        if isinstance(value, torch.Tensor)
        else value
        for name, value in arguments.items()
    }


def doubled(name: str, arguments: Arguments) -> Arguments:
    """Real and complex numbers of the operations on phases and pyramids in float64."""
    if not name.startswith(("phase", "pyramid")):
        return arguments
    wider = {torch.float32: torch.float64, torch.complex64: torch.complex128}
    return {
        key: value.to(wider.get(value.dtype, value.dtype))
        if isinstance(value, torch.Tensor)
        else value
        for key, value in arguments.items()
    }


def on_cuda() -> bool:
    """Whether kernels of CUDA are called."""
    from fvfast.ops._kernels import kernels_for

    kernels = kernels_for(torch.device("cpu"))
    return kernels is not None and kernels.target is not None


def tensors_of(name: str, result: Any, arguments: Arguments) -> list[torch.Tensor]:
    """All that a call made or changed, as far as it has one right value."""
    made = [result] if isinstance(result, torch.Tensor) else list(result or [])
    changed = {key: arguments[key] for key in written_of(name) if arguments[key] is not None}
    if name == "phase_to_image" and on_cuda():
        del made[1]  # the spectrum, which only the kernels of the CPU leave
    elif name in ("phase_update_", "phase_ascent_"):
        made = [made[0].sum(1)]  # in how many parts depends on the device
    elif name == "phase_step_":
        changed["sums"] = changed["sums"].sum(1)
    return [*made, *changed.values()]


def tolerance_of(arguments: Arguments) -> float:
    """What the coarsest type of the arguments allows."""
    types = {value.dtype for value in arguments.values() if isinstance(value, torch.Tensor)}
    types |= {value for value in arguments.values() if isinstance(value, torch.dtype)}
    return max((TOLERANCE.get(dtype, EXACT) for dtype in types), default=EXACT)


def compare(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float | None) -> None:
    """Compare values too, where there is a tolerance."""
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    if tolerance is None or ours.device.type == "meta" or not ours.numel():
        return
    wide = torch.complex128 if ours.is_complex() else torch.float64
    one, other = ours.to(wide), theirs.to(wide)
    if not other.isfinite().all():
        return
    assert one.isfinite().all(), "values that are not finite, where the reference's are"
    largest = max(float(other.abs().max()), 1e-6)
    difference = float((one - other).abs().max()) / largest
    assert difference <= tolerance, f"differs by {difference} of the largest value"


def named(name: str, arguments: Sequence[str], message: str) -> bool:
    """Whether a message names the operation and one of its arguments."""
    return name in message and any(argument in message for argument in arguments)


def ordinary(value: Any) -> bool:
    """Whether a value is not a tensor, or one with strides and memory on the CPU."""
    if not isinstance(value, torch.Tensor):
        return True
    return value.layout == torch.strided and value.device.type == "cpu"


def change_some(rng: random.Random, arguments: Arguments) -> list[tuple[str, str, bool]]:
    """Change one argument, most often; see `change_one`."""
    changes = []
    for _ in range(rng.choice([0, 0, 1, 1, 1, 1, 1, 2])):
        changes.append(change_one(rng, arguments))
        name, kind, _ = changes[-1]
        if kind in FINAL or not ordinary(arguments[name]):
            break
    return changes


def lost(arguments: Arguments) -> bool:
    """Whether torch itself must not read a tensor: it has lost memory, or its address is odd."""
    for value in arguments.values():
        if not isinstance(value, torch.Tensor) or not ordinary(value) or value.numel() == 0:
            continue
        steps = (
            (size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True)
        )
        end = (value.storage_offset() + 1 + sum(steps)) * value.element_size()
        if end > value.untyped_storage().nbytes() or value.data_ptr() % value.element_size():
            return True
    return False


def run_one(name: str, number: int) -> str:
    """Make one call; return its outcome. The number alone determines its arguments."""
    rng = random.Random(zlib.crc32(f"{name} {number}".encode()))
    arguments = CASES[name](rng)
    changes = change_some(rng, arguments)
    comparable = not any(change == "wild" for _, change, _ in changes)
    if name in NEEDS_DERIVED:
        comparable &= all(same or key not in DERIVED for key, _, same in changes)
    # Values that overflow float32, but not the float64 of the references.
    comparable &= all(
        abs(value) < 1e30
        for key, value in arguments.items()
        if isinstance(value, float | int) and key in fractions_of(name)
    )
    before, result, refusal = None, None, None
    # What not even torch can copy, an operation must refuse.
    with contextlib.suppress(RuntimeError, ValueError):
        before = None if lost(arguments) else independent(arguments)
    try:
        result = call(name, arguments)
    except REFUSALS as error:
        refusal = error
    if refusal is not None:
        message = f"{changes}: {type(refusal)}: {refusal}"
        fits = all(same and may_be(name, key, kind) for key, kind, same in changes)
        assert not fits, f"a valid call was refused: {message}"
        assert named(name, list(arguments), str(refusal)), message
        return "refused"
    assert before is not None, f"{changes}: expected an error"
    double = doubled(name, before)
    expected = reference(name, double)
    pairs = zip(
        tensors_of(name, result, arguments), tensors_of(name, expected, double), strict=True
    )
    for ours, theirs in pairs:
        compare(ours, theirs, tolerance_of(before) if comparable else None)
    return "changed" if changes else "valid"


def may_be(name: str, argument: str, kind: str) -> bool:
    """Whether an argument may be so."""
    return kind != "misaligned" and not (kind == "negated" and argument in written_of(name))


def declared(name: str) -> list[Any]:
    """Arguments in an operation's schema."""
    return list(getattr(torch.ops.fvfast, name).default._schema.arguments)


def written_of(name: str) -> list[str]:
    """Names of the arguments that an operation writes to."""
    return [
        argument.name
        for argument in declared(name)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]


def fractions_of(name: str) -> set[str]:
    """Names of the arguments that a schema makes a float of."""
    return {argument.name for argument in declared(name) if str(argument.type) == "float"}


def main(path: str, count: str, progress: str, *only: str) -> None:
    sys.modules["fvfast._C"] = load(path)
    import fvfast.ops

    module = fvfast.ops._kernels.native()
    assert module is sys.modules["fvfast._C"], "another module is in use"
    assert operations() == CASES.keys(), operations() ^ CASES.keys()
    torch.set_num_threads(2)
    with fvfast.ops._kernels.use_emulated(module if has_cuda(module) else None):
        run_all(int(count), progress, *only)


def run_all(count: int, progress: str, *only: str) -> None:
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    slowest: dict[str, float] = collections.defaultdict(float)
    file = os.open(progress, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    failed = 0
    for name in CASES:
        for number in range(count):
            if only != (name, str(number))[: len(only)]:
                continue
            os.pwrite(file, f"{name} {number:<8}".encode().ljust(40), 0)
            choose_device(sys.modules["fvfast._C"], number)
            start = time.perf_counter()
            try:
                counts[name][run_one(name, number)] += 1
            except Exception as error:
                sys.stderr.write(f"{name} {number}: {type(error).__name__}: {error}\n")
                if len(only) == 2:
                    raise
                failed += 1
            slowest[name] = max(slowest[name], time.perf_counter() - start)
    assert not failed, f"{failed} calls failed"
    sys.stdout.write(json.dumps({"counts": counts, "slowest": slowest}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
