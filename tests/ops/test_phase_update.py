"""The optimizer's step: the kernel against torch.optim.NAdam, and its reference in float64."""

import functools
import math

import pytest
import torch
from selection import short_for, thorough

from fvfast.ops import phase_update_
from fvfast.ops._kernels import native, native_status
from fvfast.ops._memory import buffer
from fvfast.ops.nadam import nadam_momentum
from fvfast.ops.reference.phase import phase_update_reference_

DTYPES = [torch.float32, torch.float64]
RATES = {
    "gradient_rate": 0.3,
    "momentum_rate": 0.6,
    "correction": 0.01,
    "epsilon": 1e-7,
}
needs_native = pytest.mark.skipif(
    not native_status().available, reason="the native module is not built"
)


def normal(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    return numbers.to(torch.get_default_device(), dtype)


def state_of(*shape, dtype=torch.float32):
    """Return phase, gradient, and averages such as a few steps leave behind."""
    gradient = normal(*shape, seed=1, dtype=dtype)
    return [
        normal(*shape, dtype=dtype),
        gradient,
        0.5 * normal(*shape, seed=2, dtype=dtype),
        0.01 * gradient.square() + 0.001,
    ]


def operation(phase, gradient, exp_avg, exp_avg_sq):
    return torch.ops.fvfast.phase_update_(
        phase, gradient, exp_avg, exp_avg_sq, 0.9, 0.999, *RATES.values(), None, None
    )


def reference(phase, gradient, exp_avg, exp_avg_sq):
    return phase_update_reference_(
        phase, gradient, exp_avg, exp_avg_sq, betas=(0.9, 0.999), **RATES
    )


def error(state, exact):
    return max(
        (values.double() - expected).abs().max().item()
        for values, expected in zip(state, exact, strict=True)
    )


@functools.cache
def tolerance(dtype):
    """Twice the error of the reference in this type over many numbers.

    For float64, which has no better reference, that of float32 in the proportion of the roundings.
    """
    single = state_of(2, 2**18)
    exact = [tensor.double() for tensor in single]
    reference(*single)
    reference(*exact)
    ratio = torch.finfo(dtype).eps / torch.finfo(torch.float32).eps
    return 2 * error(single, exact) * ratio


@pytest.mark.compiled
@pytest.mark.every_instruction_set
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "shape",
    [(1, 1), (2, 3), (5, 63), (1, 64), (2, 65), (2, 4097), (2, 3, 31, 49), (1, 3, 512, 257)],
)
def test_every_size(dtype, shape):
    state = state_of(*shape, dtype=dtype)
    exact = [tensor.double().clone() for tensor in state]
    sums = operation(*state)
    reference(*exact)
    assert error(state, exact) <= tolerance(dtype)
    flat = state[0].double().flatten(1)
    expected = torch.stack((flat.sum(1), flat.square().sum(1)), dim=1)
    sums = sums.sum(1)
    # Terms of size 1 in float64: the rounding of n of them is far below n eps.
    assert (sums - expected).abs().max() <= flat.shape[1] * torch.finfo(torch.float64).eps * 16


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("maximize", [True, thorough(False)])
def test_256_steps_equal_those_of_torch(dtype, maximize):
    """Ascent to a moving target, so that the averages stay busy."""
    shape = (2, 3, 7, 5)
    ours, first, second = normal(*shape, dtype=dtype), *(torch.zeros(shape, dtype=dtype),) * 2
    second = second.clone()
    theirs = ours.clone()
    optimizer = torch.optim.NAdam([theirs], lr=1.0, momentum_decay=1.0, eps=1e-7, maximize=maximize)
    sign = 1 if maximize else -1
    exact, exact_first, exact_second = (x.double().clone() for x in (ours, first, second))
    product = 1.0
    for step in range(1, 257):
        target = normal(*shape, seed=step)
        # All follow one path's gradients: the optimizers are compared, not the chaos of the path.
        gradient = sign * (target.to(dtype) - theirs)
        phase_update_(
            ours, gradient, first, second, step=step, mu_product=product, maximize=maximize
        )
        phase_update_(
            exact, gradient.double(), exact_first, exact_second, step=step, maximize=maximize
        )
        product *= nadam_momentum(step)
        theirs.grad = gradient
        optimizer.step()
    allowed = 2 * (theirs.double() - exact).abs().max().item()
    if dtype == torch.float64:
        # torch keeps the product of the momenta in float32, and its denominators err by that.
        allowed = max(allowed, 1e-12)
    assert (ours.double() - exact).abs().max().item() <= allowed
    assert (ours - theirs).abs().max().item() <= 1e-4


def test_defaults_are_those_of_keras():
    phase, gradient = normal(1, 50), normal(1, 50, seed=1)
    expected = phase.clone()
    expected.grad = -gradient
    torch.optim.NAdam([expected], lr=1.0, momentum_decay=1.0, eps=1e-7).step()
    phase_update_(phase, gradient, torch.zeros(1, 50), torch.zeros(1, 50), step=1)
    torch.testing.assert_close(phase, expected)


def test_golden_nadam(golden):
    x = torch.zeros(1, len(golden["nadam_w"]))
    weights, center, steps = (golden[f"nadam_{name}"].to(x.device) for name in "wcx")
    averages = torch.zeros_like(x), torch.zeros_like(x)
    for step, expected in enumerate(steps, start=1):
        phase_update_(x, -2 * weights * (x - center), *averages, step=step)
        assert (x[0] - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_number_of_threads_gives_the_same_bits(dtype):
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            state = state_of(2, 3, 64, 129, dtype=dtype)
            results.append([*state, operation(*state)])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert torch.equal(one, two)


def test_an_image_alone_equals_itself_in_a_batch():
    batch = state_of(5, 3, 31, 9)
    alone = [[tensor[index : index + 1].clone() for tensor in batch] for index in range(5)]
    sums = operation(*batch)
    for index, state in enumerate(alone):
        assert torch.equal(operation(*state)[0], sums[index])
        for one, many in zip(state, batch, strict=True):
            assert torch.equal(one[0], many[index])


@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_strides(which):
    state = state_of(2, 3, 8, 5)
    expected = [tensor.clone() for tensor in state]
    sums = operation(*expected)
    state[which] = state[which].permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    actual = operation(*state)
    assert error(state, [tensor.double() for tensor in expected]) <= tolerance(torch.float32)
    torch.testing.assert_close(actual.sum(1), sums.sum(1), rtol=1e-5, atol=1e-4)


def test_no_images():
    state = state_of(0, 3, 8, 5)
    sums = operation(*state)
    assert sums.shape == (0, sums.shape[1], 2)


def test_sums_tell_what_is_not_finite():
    state = state_of(3, 100)
    state[1][1, 7] = math.inf
    sums = operation(*state)
    assert sums.isfinite().all(2).all(1).tolist() == [True, False, True]


def test_autograd_notices_the_change_in_place():
    phase, gradient, first, second = (tensor.requires_grad_(False) for tensor in state_of(1, 8))
    phase.requires_grad_()
    product = phase * phase
    phase_update_(phase, gradient, first, second, step=1)
    assert phase.requires_grad
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()


@pytest.mark.parametrize("dtype", short_for([torch.float32], DTYPES), ids=str)
def test_opcheck(dtype):
    arguments = (*state_of(2, 3, 8, 5, dtype=dtype), 0.9, 0.999, *RATES.values(), None, None)
    torch.library.opcheck(torch.ops.fvfast.phase_update_.default, arguments)


@pytest.mark.cpu_only
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiles_without_graph_breaks():
    def update(phase, gradient, exp_avg, exp_avg_sq):
        return phase_update_(phase, 2 * gradient, exp_avg, exp_avg_sq, step=3)

    state, expected = state_of(2, 3, 8, 5), state_of(2, 3, 8, 5)
    torch._dynamo.reset()
    sums = torch.compile(update, fullgraph=True)(*state)
    assert torch.equal(sums, update(*expected))
    for one, two in zip(state, expected, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("failure", "argument", "got", "change"),
    [
        (TypeError, "phase", "list", {"phase": [1.0]}),
        (TypeError, "phase", "torch.int64", {"phase": torch.ones(2, 3, dtype=torch.int64)}),
        (ValueError, "phase", r"\(3,\)", {"phase": torch.ones(3)}),
        (TypeError, "gradient", "NoneType", {"gradient": None}),
        (TypeError, "gradient", "torch.float64", {"gradient": torch.ones(2, 3).double()}),
        (ValueError, "exp_avg", r"\(2, 4\)", {"exp_avg": torch.ones(2, 4)}),
        (ValueError, "exp_avg_sq", r"\(6,\)", {"exp_avg_sq": torch.ones(6)}),
        (ValueError, "exp_avg", "expanded", {"exp_avg": torch.ones(1, 1).expand(2, 3)}),
        (ValueError, "step", "0", {"step": 0}),
        (ValueError, "lr", "nan", {"lr": math.nan}),
        (ValueError, "eps", "-1.0", {"eps": -1.0}),
        (ValueError, "momentum_decay", "inf", {"momentum_decay": math.inf}),
        (ValueError, "mu_product", "-0.5", {"mu_product": -0.5}),
        (ValueError, "betas", "1.0", {"betas": (0.9, 1.0)}),
    ],
)
def test_bad_arguments_are_named(failure, argument, got, change):
    device = torch.get_default_device()
    arguments = {
        **dict(zip(("phase", "gradient", "exp_avg", "exp_avg_sq"), state_of(2, 3), strict=True)),
        "step": 1,
        **{
            # With its strides, which an expanded tensor loses on its way to another device.
            name: value[:1, :1].to(device).expand(value.shape)
            if got == "expanded"
            else value.to(device)
            if isinstance(value, torch.Tensor)
            else value
            for name, value in change.items()
        },
    }
    with pytest.raises(failure, match=rf"phase_update_\(\): {argument}: expected .*{got}"):
        phase_update_(**arguments)


ARRAYS = ("phase", "gradient", "exp_avg", "exp_avg_sq", "sums", "scratch")


@pytest.mark.cpu_only
@needs_native
@pytest.mark.parametrize(
    ("argument", "change"),
    [
        *((name, {name: (0, 99)}) for name in ARRAYS),
        *((name, {name: (64, 1)}) for name in ARRAYS),  # each has more elements
        ("dtype", {"dtype": "bfloat16"}),
        ("sizes", {"sizes": [1, 2, 3]}),
        ("sizes", {"sizes": [-1, 3]}),
        ("sizes", {"sizes": [2**30, 2**30]}),
        ("betas", {"betas": [0.9, 1.0]}),
        ("betas", {"betas": [math.nan, 0.9]}),
        ("gradient_rate", {"gradient_rate": math.nan}),
        ("momentum_rate", {"momentum_rate": math.inf}),
        ("correction", {"correction": 0.0}),
        ("epsilon", {"epsilon": -1.0}),
        ("counter", {"counter": (64, 1)}),
        ("rates", {"rates": ((64, 3), 1, 3)}),
        ("out", {"out": (64, 99)}),
        ("scores", {"running": (64, 99)}),
        ("unfinished", {"unfinished": ((64, 99), (64, 99), [1, 1, 1, 4], 1e-5)}),
    ],
)
def test_native_module_checks_for_itself(argument, change):
    memory = torch.zeros(len(ARRAYS), 256, dtype=torch.float64)
    arguments = {
        **{name: buffer(row) for name, row in zip(ARRAYS, memory, strict=True)},
        **dict.fromkeys(("out", "scores", "flags", "running"), (0, 0)),
        "dtype": "float32",
        "sizes": [1, 3],
        "betas": [0.9, 0.999],
        **RATES,
        "rates": None,
        "counter": (0, 0),
        "unfinished": None,
        "target": None,
    }
    native().phase_update(**arguments)
    with pytest.raises(ValueError, match=rf"phase_update\(\): {argument}: expected .*, got"):
        native().phase_update(**{**arguments, **change})
