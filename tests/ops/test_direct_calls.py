"""Operations called directly, without the functions above them, check everything for themselves.

Such calls read or wrote out of bounds, or other tensors' memory, or came to wrong results.
`tests/fuzz` makes random ones.
"""

import math

import pytest
import torch

from fvfast.ops.phase_step import new_sums
from fvfast.ops.reference.winograd import winograd_convolution_reference
from fvfast.ops.winograd import winograd_convolution

NOISE = {
    "std": 0.0,
    "uniform_width": 0.0,
    "seed": 1,
    "identities": [0, 1],
    "step": 0,
    "counter": None,
    "std_table": None,
    "uniform_width_table": None,
    "identity_table": None,
}
RATES = {
    "beta1": 0.9, "beta2": 0.999, "gradient_rate": 0.1, "momentum_rate": 0.1, "correction": 0.5,
    "epsilon": 1e-7, "rates": None, "counter": None,
}  # fmt: skip


def random(*shape, dtype=torch.float32):
    generator = torch.Generator(device="cpu").manual_seed(math.prod(shape))
    return torch.randn(shape, generator=generator, dtype=dtype, device="cpu").to(
        torch.get_default_device()
    )


def crop_resize():
    return {
        "images": random(2, 3, 8, 9), "boxes": random(2, 2, 4), "height": 5, "width": 6,
        "dtype": torch.float32, "channels_last": False, **NOISE,
    }  # fmt: skip


def crop_gradient():
    return {
        "gradient": random(4, 3, 5, 6), "boxes": random(2, 2, 4), "image_height": 8,
        "image_width": 9, "dtype": torch.float32, "transparency": torch.zeros(2, 3, 8, 9),
        "running": torch.tensor([True, False]), "flags": torch.zeros(2, dtype=torch.int32),
    }  # fmt: skip


def inject_noise():
    return {"images": random(2, 3, 8, 9), **NOISE, "std": 1.0}


def draw_boxes():
    return {
        "box_size": 0.25, "nb_crops": 4, "shape": "normal", "spread": 0.05, "center_spread": 0.15,
        "smallest": 0.05, "largest": 1.0, "seed": 1, "identities": [0, 1], "step": 0,
        "counter": None, "box_size_table": None, "identity_table": None,
        "device": torch.get_default_device(),
    }  # fmt: skip


def phase_to_image():
    return {
        "magnitude": random(3, 8, 5).abs(), "phase": random(2, 3, 8, 5), "low": 0.0, "high": 1.0,
        "width": 8, "phase_sums": None,
    }  # fmt: skip


def phase_to_image_backward():
    forward = phase_to_image()
    image, spectrum, statistics = torch.ops.fvfast.phase_to_image(*forward.values())
    return {
        "gradient": random(2, 3, 8, 8), "magnitude": forward["magnitude"],
        "phase": forward["phase"], "image": image, "spectrum": spectrum, "statistics": statistics,
        "low": 0.0, "high": 1.0,
    }  # fmt: skip


def phase_update_():
    names = ("phase", "gradient", "exp_avg", "exp_avg_sq")
    return {**{name: random(2, 3, 8, 5).abs() for name in names}, **RATES}


def phase_ascent_():
    back = phase_to_image_backward()
    order = ("gradient", "image", "magnitude", "phase", "spectrum", "statistics", "low", "high")
    averages = {"exp_avg": random(2, 3, 8, 5), "exp_avg_sq": random(2, 3, 8, 5).abs()}
    return {**{name: back[name] for name in order}, **averages, **RATES}


def phase_step_():
    ascent = phase_ascent_()
    order = ("gradient", "image", "magnitude", "phase", "spectrum", "statistics", "low", "high")
    return {
        **{name: ascent[name] for name in order}, "next_phase": random(2, 3, 8, 5),
        "exp_avg": ascent["exp_avg"], "exp_avg_sq": ascent["exp_avg_sq"],
        "sums": new_sums(ascent["phase"]), "scores": random(2),
        "flags": torch.zeros(2, dtype=torch.int32), "running": torch.tensor([True, False]), **RATES,
    }  # fmt: skip


def end_step_():
    return {
        "scores": random(2), "flags": torch.zeros(2, dtype=torch.int32),
        "phase": random(2, 3, 8, 5), "next_phase": random(2, 3, 8, 5),
        "sums": random(2, 4, 2, dtype=torch.float64), "running": torch.tensor([True, False]),
        "ended_in": torch.tensor([-1, 2]), "by_update": torch.tensor([False, False]),
        "has_gradient": torch.tensor([False, True]), "recent_scores": random(2, 7),
        "counter": torch.tensor(3), "patience": 10, "boxes": torch.zeros(2, 4, 4),
        "shape": "normal", "spread": 0.05, "center_spread": 0.15, "smallest": 0.05, "largest": 1.0,
        "seed": 1, "box_size_table": torch.tensor([0.25], dtype=torch.float64),
        "identity_table": torch.tensor([0, 1]),
    }  # fmt: skip


def pyramid_to_image():
    return {
        "pyramid": random(2, 3, 101), "height": 8, "width": 9, "levels": 5, "low": 0.0,
        "high": 1.0, "gain": 2.0,
    }  # fmt: skip


def pyramid_to_image_backward():
    image = torch.ops.fvfast.pyramid_to_image(*pyramid_to_image().values())
    return {
        "gradient": random(2, 3, 8, 9), "image": image, "levels": 5, "low": 0.0, "high": 1.0,
        "gain": 2.0,
    }  # fmt: skip


def convolution_epilogue_():
    output = random(2, 8, 3, 5).contiguous(memory_format=torch.channels_last)
    term = 2 * random(2, 8, 3, 5).contiguous(memory_format=torch.channels_last)
    return {"output": output, "bias": random(8), "term": term, "limits": (0.0, 6.0)}


def winograd():
    images = random(2, 4, 6, 7).contiguous(memory_format=torch.channels_last)
    return {
        "images": images, "weight": random(2, 16, 4, 32), "bias": random(40), "outputs": 40,
        "padding": (1, 1), "term": random(2, 40, 6, 7), "limits": (0.0, 6.0),
    }  # fmt: skip


OPERATIONS = {
    make.__name__: make
    for make in (
        inject_noise, draw_boxes, crop_resize, crop_gradient, phase_to_image,
        phase_to_image_backward, phase_update_, phase_ascent_, phase_step_, end_step_,
        pyramid_to_image, pyramid_to_image_backward, convolution_epilogue_,
    )
}  # fmt: skip
OPERATIONS["inject_noise_"] = inject_noise
OPERATIONS["winograd_convolution"] = winograd


def shrunk(tensor):
    """A tensor that has lost the end of its memory."""
    tensor = tensor.clone()
    tensor.untyped_storage().resize_(4)
    return tensor


BAD = [
    ("crop_gradient", "transparency", lambda: torch.zeros(1)),
    ("crop_gradient", "transparency", lambda: torch.zeros(2, 3, 8, 9, dtype=torch.float64)),
    ("crop_gradient", "transparency", lambda: torch.zeros(2, 1, 8, 9).expand(2, 3, 8, 9)),
    ("crop_gradient", "transparency", lambda: random(99).as_strided((2, 3, 8, 9), (9, 9, 9, 1))),
    ("crop_gradient", "running", lambda: torch.ones(2)),
    ("crop_gradient", "running", lambda: torch.ones(3, dtype=torch.bool)),
    ("crop_gradient", "flags", lambda: torch.zeros(2, dtype=torch.int64)),
    ("crop_gradient", "flags", lambda: torch.zeros(1, dtype=torch.int32).expand(2)),
    ("crop_gradient", "dtype", lambda: torch.float16),
    ("crop_gradient", "boxes", lambda: random(1, 4)),
    ("crop_gradient", "boxes", lambda: random(2, 2, 1)),
    ("crop_gradient", "boxes", lambda: random(2, 2, 4).to_sparse()),
    ("crop_gradient", "gradient", lambda: random(3, 3, 5, 6)),
    ("crop_gradient", "image_height", lambda: 2**40),
    ("crop_gradient", "image_width", lambda: 0),
    ("crop_resize", "boxes", lambda: random(1, 4)),
    ("crop_resize", "boxes", lambda: random(2, 2, 1)),
    ("crop_resize", "boxes", lambda: random(9, 2, 4)),  # more than there are images
    ("crop_resize", "boxes", lambda: random(2, 2, 4).long()),
    ("crop_resize", "images", lambda: random(3, 8, 9)),
    ("crop_resize", "images", lambda: random(2, 3, 8, 9).half()),
    ("crop_resize", "images", lambda: shrunk(random(2, 3, 8, 9))),
    ("crop_resize", "boxes", lambda: torch.zeros(2, 2, 4, device="meta")),
    ("crop_resize", "height", lambda: -1),
    ("crop_resize", "width", lambda: 2**62),
    ("crop_resize", "dtype", lambda: torch.int8),
    ("crop_resize", "identities", lambda: [0]),
    ("crop_resize", "identities", lambda: [0, 2**32]),
    ("crop_resize", "step", lambda: -1),
    ("crop_resize", "std", lambda: math.nan),
    ("crop_resize", "counter", lambda: torch.zeros(1)),
    ("crop_resize", "std_table", lambda: torch.zeros(3, dtype=torch.float64)),  # without a counter
    ("crop_resize", "identity_table", lambda: torch.zeros(2, dtype=torch.int64)),  # beside numbers
    ("inject_noise", "identities", list),
    ("inject_noise", "counter", lambda: shrunk(torch.zeros(1, dtype=torch.int64))),
    ("inject_noise", "std_table", lambda: torch.zeros(3)),
    ("inject_noise", "std_table", lambda: torch.zeros((), dtype=torch.float64)),
    ("inject_noise", "uniform_width_table", lambda: torch.zeros(0, dtype=torch.float64)),
    ("inject_noise", "identity_table", lambda: torch.zeros(2)),
    ("inject_noise", "images", lambda: random(2, 3).to_sparse()),
    ("inject_noise", "images", lambda: torch.zeros(2, 1).expand(2, 2**40)),
    ("inject_noise_", "images", lambda: torch.zeros(2, 1).expand(2, 3)),
    ("inject_noise_", "images", lambda: torch._neg_view(random(2, 3))),
    ("inject_noise_", "uniform_width", lambda: -1.0),
    ("draw_boxes", "nb_crops", lambda: 2**40),
    ("draw_boxes", "identities", lambda: [-1]),
    ("draw_boxes", "box_size", lambda: 1e300),
    ("draw_boxes", "shape", lambda: "cauchy"),
    ("draw_boxes", "counter", lambda: torch.zeros(2, dtype=torch.int64)),
    ("draw_boxes", "box_size_table", lambda: torch.zeros(3, 1, dtype=torch.float64)),
    ("draw_boxes", "box_size_table", lambda: torch.zeros(3, dtype=torch.float64)),
    ("draw_boxes", "identity_table", lambda: torch.zeros(2, 1, dtype=torch.int64)),
    ("phase_to_image", "width", lambda: 2**40),
    ("phase_to_image", "width", lambda: 4000),
    ("phase_to_image", "width", lambda: -8),
    ("phase_to_image", "magnitude", lambda: random(1, 1, 1)),
    ("phase_to_image", "phase", lambda: random(2, 3, 8, 5, dtype=torch.float64)),
    ("phase_to_image", "phase_sums", lambda: torch.zeros(1, dtype=torch.float64)),
    ("phase_to_image", "phase_sums", lambda: torch.zeros(2, 1, 2).double().expand(2, 2**40, 2)),
    ("phase_to_image", "high", lambda: 0.0),
    ("phase_to_image_backward", "phase", lambda: random(1, 1, 1, 1)),
    ("phase_to_image_backward", "spectrum", lambda: random(1).to(torch.complex64)),
    ("phase_to_image_backward", "statistics", lambda: torch.zeros(1, 4, dtype=torch.float64)),
    ("phase_to_image_backward", "image", lambda: random(2, 3, 8)),
    ("phase_to_image_backward", "gradient", lambda: random(2, 3, 8, 9)),
    ("phase_update_", "exp_avg", lambda: torch.zeros(1)),
    ("phase_update_", "exp_avg_sq", lambda: random(2, 3, 8, 5, dtype=torch.float64)),
    ("phase_update_", "phase", lambda: shrunk(random(2, 3, 8, 5))),
    ("phase_update_", "correction", lambda: 0.0),
    ("phase_update_", "beta1", lambda: 1.0),
    ("phase_update_", "gradient_rate", lambda: math.inf),
    ("phase_update_", "rates", lambda: torch.ones(4, 3)),
    ("phase_update_", "rates", lambda: torch.ones(4, 3, dtype=torch.float64)),  # without a counter
    ("phase_update_", "rates", lambda: torch.ones(3, dtype=torch.float64)),
    ("phase_update_", "rates", lambda: torch.ones(4, 3).double().to_sparse()),
    ("phase_ascent_", "exp_avg", lambda: torch.zeros(1)),
    ("phase_ascent_", "gradient", lambda: random(2, 3, 8, 8).bfloat16()),
    ("phase_ascent_", "image", lambda: random(2, 3, 9, 8)),
    ("phase_ascent_", "epsilon", lambda: -1.0),
    ("phase_ascent_", "counter", lambda: torch.zeros(1)),
    ("phase_step_", "next_phase", lambda: random(2, 3, 8, 4)),
    ("phase_step_", "next_phase", lambda: torch.zeros(1).expand(2, 3, 8, 5)),
    ("phase_step_", "sums", lambda: torch.zeros(2, 1, 2)),
    ("phase_step_", "sums", lambda: torch.zeros(2, 3, 2, dtype=torch.float64)),
    ("phase_step_", "scores", lambda: random(3)),
    ("phase_step_", "scores", lambda: torch.zeros(2, dtype=torch.int32)),
    ("phase_step_", "flags", lambda: torch.zeros(2)),
    ("phase_step_", "running", lambda: torch.zeros(2, dtype=torch.int32)),
    ("phase_step_", "running", lambda: torch.zeros(2, 1, dtype=torch.bool)),
    ("phase_step_", "correction", lambda: 0.0),
    ("end_step_", "scores", lambda: random(2, dtype=torch.float64)),
    ("end_step_", "flags", lambda: torch.zeros(1, dtype=torch.int32)),
    ("end_step_", "phase", lambda: random(2, 3, 8, 5).half()),
    ("end_step_", "phase", lambda: random(2)),
    ("end_step_", "next_phase", lambda: random(2, 3, 8, 4)),
    ("end_step_", "sums", lambda: torch.zeros(2, 0, 2, dtype=torch.float64)),
    ("end_step_", "sums", lambda: torch.zeros(1, 4, 2, dtype=torch.float64)),
    ("end_step_", "running", lambda: torch.ones(2)),
    ("end_step_", "ended_in", lambda: torch.zeros(2)),
    ("end_step_", "by_update", lambda: torch.zeros(2)),
    ("end_step_", "has_gradient", lambda: torch.zeros(1, dtype=torch.bool).expand(2)),
    ("end_step_", "recent_scores", lambda: random(2)),
    ("end_step_", "recent_scores", lambda: random(2, 0)),
    ("end_step_", "counter", lambda: torch.zeros(2, dtype=torch.int64)),
    ("end_step_", "patience", lambda: -1),
    ("end_step_", "boxes", lambda: torch.zeros(2, 4)),
    ("end_step_", "boxes", lambda: torch.zeros(2, 4, 4, dtype=torch.float64)),
    ("end_step_", "boxes", lambda: None),  # beside tables
    ("end_step_", "shape", lambda: "cauchy"),
    ("end_step_", "spread", lambda: -1.0),
    ("end_step_", "box_size_table", lambda: None),
    ("end_step_", "box_size_table", lambda: torch.zeros(3)),
    ("end_step_", "identity_table", lambda: torch.zeros(3, dtype=torch.int64)),
    ("pyramid_to_image", "pyramid", lambda: random(2, 3, 100)),
    ("pyramid_to_image", "pyramid", lambda: random(2, 3, 101).half()),
    ("pyramid_to_image", "pyramid", lambda: random(2, 101)),
    ("pyramid_to_image", "pyramid", lambda: shrunk(random(2, 3, 101))),
    ("pyramid_to_image", "pyramid", lambda: torch.zeros(1, 1, 101).expand(2**40, 2**10, 101)),
    ("pyramid_to_image", "height", lambda: 0),
    ("pyramid_to_image", "width", lambda: 2**40),
    ("pyramid_to_image", "levels", lambda: 6),
    ("pyramid_to_image", "high", lambda: 0.0),
    ("pyramid_to_image", "gain", lambda: math.nan),
    ("pyramid_to_image_backward", "gradient", lambda: random(2, 3, 8, 8)),
    ("pyramid_to_image_backward", "gradient", lambda: random(2, 3, 8, 9).double()),
    ("pyramid_to_image_backward", "image", lambda: random(3, 8, 9)),
    ("pyramid_to_image_backward", "image", lambda: shrunk(random(2, 3, 8, 9))),
    ("pyramid_to_image_backward", "levels", lambda: 0),
    ("pyramid_to_image_backward", "low", lambda: math.inf),
    ("convolution_epilogue_", "output", lambda: random(8, 3, 5)),
    ("convolution_epilogue_", "output", lambda: random(2, 8, 3, 5).long()),
    ("convolution_epilogue_", "output", lambda: shrunk(random(2, 8, 3, 5))),
    ("convolution_epilogue_", "output", lambda: torch.zeros(1, 8, 3, 5).expand(2, 8, 3, 5)),
    ("convolution_epilogue_", "output", lambda: torch._neg_view(random(2, 8, 3, 5))),
    ("convolution_epilogue_", "output", lambda: random(2, 8, 3, 5).to_sparse()),
    ("convolution_epilogue_", "bias", lambda: random(7)),
    ("convolution_epilogue_", "bias", lambda: random(1, 8)),
    ("convolution_epilogue_", "bias", lambda: random(8).double()),
    ("convolution_epilogue_", "bias", lambda: shrunk(random(8))),
    ("convolution_epilogue_", "term", lambda: random(2, 8, 3, 4)),
    ("convolution_epilogue_", "term", lambda: random(2, 8, 3, 5).half()),
    ("convolution_epilogue_", "term", lambda: torch.zeros(2, 8, 3, 5, device="meta")),
    ("convolution_epilogue_", "limits", lambda: (1.0, 0.0)),
    ("convolution_epilogue_", "limits", lambda: (math.nan, 0.0)),
    ("convolution_epilogue_", "limits", lambda: (0.0, 1e300)),
    ("convolution_epilogue_", "limits", lambda: (0.0,)),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "argument", "make"), BAD)
def test_an_argument_that_does_not_fit_is_named(operation, argument, make):
    arguments = {**OPERATIONS[operation](), argument: make()}
    if operation == "phase_to_image" and argument == "phase":
        argument = "magnitude"  # of which the phase decides the type
    if operation == "end_step_" and argument == "boxes" and arguments["boxes"] is None:
        argument = "box_size_table"
    expected = rf"^{operation}\(\): [a-z_, ]*\b{argument}\b[a-z_, ]*: expected .*, got "
    with pytest.raises((TypeError, ValueError), match=expected):
        getattr(torch.ops.fvfast, operation)(*arguments.values())


@pytest.mark.parametrize("operation", OPERATIONS)
def test_arguments_that_fit(operation):
    getattr(torch.ops.fvfast, operation)(*OPERATIONS[operation]().values())


def test_every_operation_has_a_case():
    schemas = torch._C._jit_get_all_schemas()
    found = {schema.name for schema in schemas if schema.name.startswith("fvfast::")}
    # A test registers one for itself.
    assert found - {"fvfast::replayed_scale"} == {f"fvfast::{name}" for name in OPERATIONS}


WRITTEN = ("phase", "exp_avg", "exp_avg_sq")


@pytest.mark.parametrize("operation", ["phase_update_", "phase_ascent_", "phase_step_"])
@pytest.mark.parametrize("written", WRITTEN)
def test_memory_that_is_written_to_is_nobody_elses(operation, written):
    arguments = OPERATIONS[operation]()
    if operation == "phase_step_" and written == "phase":
        written = "next_phase"
    for name, other in arguments.items():
        if isinstance(other, torch.Tensor) and name != written and other.numel() > 0:
            size = arguments[written].numel()
            flat = torch.view_as_real(other) if other.is_complex() else other
            if flat.dtype != torch.float32 or flat.numel() < size:
                continue
            changed = {**arguments, written: flat.reshape(-1)[:size].view(2, 3, 8, 5)}
            pair = rf"({written}.* from that of {name}|{name}.* from that of {written})"
            with pytest.raises(ValueError, match=rf"^{operation}\(\): {pair}, got memory that"):
                getattr(torch.ops.fvfast, operation)(*changed.values())


def test_transparency_apart_from_the_gradient():
    arguments = crop_gradient()
    arguments["gradient"] = arguments["transparency"].view(4, 3, 4, 9)
    with pytest.raises(
        ValueError, match=r"crop_gradient\(\): transparency: .*apart from that of gradient"
    ):
        torch.ops.fvfast.crop_gradient(*arguments.values())


@pytest.mark.parametrize("added", ["bias", "term"])
def test_an_output_apart_from_what_is_added(added):
    arguments = convolution_epilogue_()
    output = arguments["output"]
    arguments[added] = output.permute(0, 2, 3, 1)[0, 0, 0] if added == "bias" else output
    with pytest.raises(
        ValueError, match=rf"^convolution_epilogue_\(\): output: .*apart from that of {added}"
    ):
        torch.ops.fvfast.convolution_epilogue_(*arguments.values())


@pytest.mark.parametrize("operation", ["phase_update_", "phase_ascent_"])
def test_elements_between_those_of_another_are_no_overlap(operation):
    arguments, expected = OPERATIONS[operation](), OPERATIONS[operation]()
    pair = torch.stack((arguments["exp_avg"], arguments["exp_avg_sq"]), -1)
    arguments["exp_avg"], arguments["exp_avg_sq"] = pair.unbind(-1)
    getattr(torch.ops.fvfast, operation)(*arguments.values())
    getattr(torch.ops.fvfast, operation)(*expected.values())
    for name in WRITTEN:
        torch.testing.assert_close(arguments[name], expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_tensors_that_are_negated_when_they_are_read(operation):
    arguments = OPERATIONS[operation]()
    expected = getattr(torch.ops.fvfast, operation)(*OPERATIONS[operation]().values())
    schema = getattr(torch.ops.fvfast, operation).default._schema
    written = {argument.name for argument in schema.arguments if argument.alias_info is not None}
    for name, value in arguments.items():
        if isinstance(value, torch.Tensor) and name not in written and value.is_floating_point():
            arguments[name] = torch._neg_view(-value)
        elif isinstance(value, torch.Tensor) and value.is_complex():
            arguments[name] = value.conj().resolve_conj().conj()
    result = getattr(torch.ops.fvfast, operation)(*arguments.values())
    torch.testing.assert_close(result, expected, rtol=0, atol=0)


def test_memory_at_an_odd_address_is_refused():
    memory = bytearray(4 * 48 + 1)
    images = torch.frombuffer(memory, dtype=torch.float32, offset=1).view(2, 24)
    arguments = {**inject_noise(), "images": images}
    with pytest.raises(ValueError, match=r"inject_noise\(\): images: expected an address aligned"):
        torch.ops.fvfast.inject_noise(*arguments.values())


def test_memory_that_cannot_be_had_is_named():
    boxes = torch.zeros(2, 1, 4).expand(2, 2**40, 4)
    arguments = {**crop_resize(), "boxes": boxes, "height": 1, "width": 1}
    # A GPU's allocator has an error of its own, by which callers know that less may fit.
    failure, message = (
        (torch.OutOfMemoryError, "Tried to allocate")
        if boxes.is_cuda
        else (RuntimeError, r"crop_resize\(\): images \(2, 3, 8, 9\), boxes \(2, 10")
    )
    with pytest.raises(failure, match=message):
        torch.ops.fvfast.crop_resize(*arguments.values())


@pytest.mark.cpu_only
def test_memory_for_the_values_of_a_negated_view_that_cannot_be_had_is_named():
    images = torch._neg_view(torch.zeros(2, 1)).expand(2, 2**44)
    arguments = {**inject_noise(), "images": images}
    with pytest.raises(RuntimeError, match=r"inject_noise\(\): images \(2, 17592186044416\)"):
        torch.ops.fvfast.inject_noise(*arguments.values())


@pytest.mark.cpu_only
def test_a_counter_that_leaves_the_step_no_room():
    arguments = {**inject_noise(), "step": 2**32 - 1, "counter": torch.tensor([1])}
    with pytest.raises(ValueError, match=r"inject_noise\(\): counter: expected .* got 4294967296"):
        torch.ops.fvfast.inject_noise(*arguments.values())


def run_winograd(function, arguments):
    images, weight, bias, *_ = arguments.values()
    others = {name: arguments[name] for name in ("outputs", "padding", "term", "limits")}
    return function(images, weight, bias, **others)


@pytest.mark.cpu_only
@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("bias", lambda: torch.zeros(1)),
        ("bias", lambda: torch.zeros(40, dtype=torch.float64)),
        ("term", lambda: torch.zeros(1)),
        ("term", lambda: torch.zeros(2, 40, 6, 6)),
        ("weight", lambda: random(1, 16, 4, 32)),
        ("weight", lambda: random(2, 16, 3, 32)),
        ("weight", lambda: None),
        ("weight", lambda: shrunk(random(2, 16, 4, 32))),
        ("images", lambda: random(4, 6, 7)),
        ("images", lambda: random(2, 4, 0, 7)),
        ("images", lambda: random(2, 4, 6, 7).long()),
        ("outputs", lambda: -1),
        ("outputs", lambda: 40.0),
        ("padding", lambda: (1, 3)),
        ("padding", lambda: 1),
        ("limits", lambda: (1.0, 0.0)),
        ("limits", lambda: (math.nan, 0.0)),
        ("limits", lambda: (0.0, 1e300)),
    ],
)
def test_winograd_names_what_does_not_fit(argument, make):
    with pytest.raises(
        (TypeError, ValueError),
        match=rf"^winograd_convolution\(\): {argument}: expected .*, got ",
    ):
        run_winograd(winograd_convolution, {**winograd(), argument: make()})


@pytest.mark.cpu_only
@pytest.mark.parametrize("argument", ["images", "weight", "bias", "term"])
def test_winograd_of_a_negated_view(argument):
    arguments = winograd()
    expected = run_winograd(winograd_convolution_reference, arguments)
    arguments[argument] = torch._neg_view(-arguments[argument])
    result = run_winograd(winograd_convolution, arguments)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.cpu_only
def test_winograd_of_weights_with_gaps():
    arguments = winograd()
    expected = run_winograd(winograd_convolution_reference, arguments)
    arguments["weight"] = torch.stack((arguments["weight"],) * 2, -1)[..., 0]
    assert not arguments["weight"].is_contiguous()
    result = run_winograd(winograd_convolution, arguments)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)
