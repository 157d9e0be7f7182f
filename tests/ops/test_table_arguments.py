"""Tables that do not fit are refused, by name."""

import math

import pytest
import torch
from ops.tables import (
    IDENTITIES,
    KEY,
    SCALES,
    SIDES,
    boxes_of,
    states,
    table_of,
)

from fvfast.ops import inject_noise, inject_noise_, phase_update_, random_crops
from fvfast.ops._kernels import kernels_for
from fvfast.ops._memory import buffer
from fvfast.ops.nadam import nadam_table

FLOAT64 = "a number, or a torch.float64 tensor"
WRONG = [
    (TypeError, f"std: expected {FLOAT64} .*got torch.float32", {"std": torch.ones(3)}),
    (TypeError, "std: expected .*got torch.float64 ()", {"std": torch.ones(()).double()}),
    (TypeError, "uniform_width: expected .*(3, 1)", {"uniform_width": torch.ones(3, 1).double()}),
    (ValueError, "std_table: expected at least one row", {"std": torch.ones(0).double()}),
    (ValueError, "std_table: expected .* at most 2^32, got (1099511627776,)",
     {"std": torch.ones(1).double().expand(2**40)}),
    (ValueError, "std_table: expected a tensor on cpu, got one on meta",
     {"std": torch.ones(3, device="meta").double()}),
    (ValueError, "std_table: expected the step as a torch.int64 tensor beside", {"step": 1}),
    (ValueError, "std_table: expected a finite number >= 0, got -1.0",
     {"std": torch.tensor([1.0, -1.0]).double()}),
    (ValueError, "uniform_width_table: expected .*got inf",
     {"uniform_width": torch.tensor([math.inf]).double()}),
    (ValueError, "std: expected a tensor without a gradient",
     {"std": torch.ones(3).double().requires_grad_()}),
    (TypeError, "identities: expected integers, or a torch.int64 tensor .*got torch.int32",
     {"identities": torch.tensor([1, 2], dtype=torch.int32)}),
    (ValueError, "identity_table: expected (2,), one for each image, got (3,)",
     {"identities": torch.tensor([1, 2, 3])}),
    (ValueError, "identity_table: expected a tensor on cpu",
     {"identities": torch.tensor([1, 2], device="meta")}),
    (ValueError, "identity_table: expected integers in [0, 2^32), got -1",
     {"identities": torch.tensor([1, -1])}),
    (ValueError, "identity_table: expected integers .*got 4294967296",
     {"identities": torch.tensor([2**32, 1])}),
]  # fmt: skip


@pytest.mark.cpu_only
def test_identities_are_numbers_or_a_tensor():
    images, words = torch.zeros(2, 3), torch.tensor(IDENTITIES)
    message = r"^inject_noise\(\): identities, identity_table: expected one of them, got both"
    with pytest.raises(ValueError, match=message):
        torch.ops.fvfast.inject_noise(images, 1.0, 1.0, 1, [1, 2], 0, None, None, None, words)


def pattern(message):
    for letter in "()[^":
        message = message.replace(letter, "\\" + letter)
    return message


@pytest.mark.cpu_only
@pytest.mark.parametrize(("error", "message", "change"), WRONG)
def test_wrong_tables_of_noise_are_named(error, message, change):
    given = {"std": table_of(SCALES), "step": torch.tensor(1), "identities": [1, 2], **KEY}
    images, boxes = torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4)
    given.update(change)
    with pytest.raises(error, match=rf"^inject_noise\(\): {pattern(message)}"):
        inject_noise(images, **given)
    name = r"(random_crops|crop_resize)\(\)"
    with pytest.raises(error, match=f"^{name}: {pattern(message)}"):
        random_crops(images, boxes, 3, **given)


@pytest.mark.cpu_only
@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (TypeError, f"box_size: expected {FLOAT64}", {"number": torch.ones(3)}),
        (ValueError, "box_size_table: expected at least one row", {"number": table_of([])}),
        (ValueError, "box_size_table: expected the step as", {"step": 3}),
        (ValueError, "box_size_table: expected .*finite number", {"number": table_of([math.nan])}),
        (ValueError, "box_size_table: .* of float32, got 1e", {"number": table_of([1e300])}),
        (ValueError, "identity_table: expected integers", {"identities": torch.tensor([-1])}),
        (ValueError, "(counter|box_size_table): expected a tensor on meta", {"device": "meta"}),
    ],
)  # fmt: skip
def test_wrong_tables_of_boxes_are_named(error, message, change):
    given = {"number": table_of(SIDES), "step": torch.tensor(1), **change}
    with pytest.raises(error, match=rf"^draw_boxes\(\): {message}"):
        boxes_of(**given)


@pytest.mark.cpu_only
@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (TypeError, "rates: expected a torch.float64 tensor", {"rates": torch.ones(4, 3)}),
        (TypeError, "rates: expected a tensor, got list", {"rates": [[0.1, 0.1, 0.5]]}),
        (ValueError, "rates: expected a row for each step", {"rates": torch.ones(4).double()}),
        (ValueError, "rates: expected a row for each step", {"rates": torch.ones(4, 2).double()}),
        (ValueError, "rates: expected at least one row", {"rates": torch.ones(0, 3).double()}),
        (ValueError, "rates: expected a tensor on cpu",
         {"rates": torch.ones(4, 3, device="meta").double()}),
        (ValueError, "rates: expected finite numbers > 0", {"rates": torch.zeros(4, 3).double()}),
        (ValueError, "rates: expected a finite", {"rates": torch.full((1, 3), math.inf).double()}),
        (ValueError, "rates: expected a tensor without",
         {"rates": torch.ones(4, 3).double().requires_grad_()}),
        (ValueError, "step: expected a torch.int64 tensor of one element, which", {"step": 1}),
        (ValueError, "step: expected .*got torch.float32", {"step": torch.tensor(1.0)}),
        (ValueError, "counter: expected an integer in", {"step": torch.tensor(-1)}),
        (ValueError, "step: expected an integer, or rates", {"rates": None}),
        (ValueError, "lr, maximize: expected none of them", {"lr": 1.0, "maximize": True}),
        (ValueError, "betas: expected", {"betas": (0.9, 1.0)}),
    ],
)  # fmt: skip
def test_wrong_rates_are_named(error, message, change):
    state, _ = states(torch.float32)
    with pytest.raises(error, match=rf"^phase_update_\(\): {message}"):
        phase_update_(*state, **{"step": torch.tensor(1), "rates": nadam_table(4), **change})


@pytest.mark.cpu_only
def test_what_is_written_is_apart_from_tables():
    memory = torch.ones(4, 3, dtype=torch.float64)
    phase, gradient, exp_avg = torch.ones(3, 4, 3, dtype=torch.float64).unbind()
    with pytest.raises(ValueError, match=r"exp_avg_sq: .*apart from that of rates"):
        phase_update_(phase, gradient, exp_avg, memory, step=torch.tensor(0), rates=memory)
    given = {"step": torch.tensor(0), "identities": range(4), **KEY}
    with pytest.raises(ValueError, match=r"images: .*apart from that of std_table"):
        inject_noise_(memory, memory[:, 0], **given)


NOISE_OF_MODULE = {
    "dtype": "float32", "sizes": [2, 3], "image_strides": [3, 1], "out_strides": [3, 1],
    "identities": [], "std": 0.0, "uniform_width": 0.0, "seed": 0, "step": 0,
    "uniform_width_table": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("argument", "change"),
    [
        ("std_table", {"counter": (0, 0)}),
        ("std_table", {"std_table": lambda memory: (memory, 0, 1)}),
        ("std_table", {"std_table": lambda memory: (memory, 2**32 + 1, 0)}),
        ("std_table", {"std_table": lambda memory: (memory, 4, -1)}),
        ("std_table", {"std_table": lambda memory: (memory, 4, 2)}),  # beyond its end
        ("std_table", {"std_table": lambda memory: (memory, 4, 2**62)}),
        ("std_table", {"std_table": ((0, 4), 4, 1)}),
        ("std_table", {"std_table": lambda memory: ((memory[0] + 4, 3), 3, 1)}),
        ("identity_table", {"identity_table": lambda memory: (memory, 3, 1)}),
        ("identity_table", {"identity_table": lambda memory: (memory, 2, 4)}),
        ("identities", {"identities": [1, 2]}),
        ("identities", {"identity_table": None}),
        ("counter", {"counter": lambda memory: (memory[0] + 1, 1)}),
        ("counter", {"counter": lambda memory: (memory[0], 0)}),
        ("out", {"out": lambda memory: (memory[0], 8)}),
    ],
)
def test_the_module_checks_tables_for_itself(backend, argument, change):
    if not backend.startswith("emulated"):
        pytest.skip("the modules of others take none, or cannot be given addresses")
    images, out, table = torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(4).double()
    counter, words = torch.tensor(1), torch.tensor(IDENTITIES)
    kernels = kernels_for(images.device)
    given = {
        **NOISE_OF_MODULE, "images": buffer(images), "out": buffer(out), "counter": buffer(counter),
        "std_table": (buffer(table), 4, 1), "identity_table": (buffer(words), 2, 1),
        "target": kernels.target,
    }  # fmt: skip
    kernels.module.inject_noise(**given)
    assert out.abs().max() > 0
    changed = {
        name: value(buffer(table)) if callable(value) else value for name, value in change.items()
    }
    with pytest.raises(
        ValueError, match=rf"inject_noise\(\): {argument}: expected .*, got"
    ) as caught:
        kernels.module.inject_noise(**{**given, **changed})
    assert argument != "out" or "apart from that of std_table" in str(caught.value)
