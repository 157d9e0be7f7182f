"""Many units: their images come one batch after the other, and the memory need not hold them."""

import gc
import io
import pickle
import re
import weakref

import pytest
import torch
from PIL import Image
from torch import nn

from fvfast import Objective, maco, maco_batch, optimize
from fvfast.models import LoadedModel
from fvfast.run.results import MacoBatch, MacoResults

INPUT = (3, 20, 20)
SHORT = {"nb_steps": 2, "nb_crops": 1, "custom_shape": 32, "progress": False, "batch_size": 2}


def neurons(network, count):
    return Objective.neuron(network, "7", range(count), input_shape=INPUT)


def test_what_is_not_kept_is_what_would_have_been(network):
    parts = []
    streamed = maco_batch(neurons(network, 5), **SHORT, on_result=parts.append, keep=False)
    assert streamed.images.shape == streamed.transparencies.shape == (0, 3, 32, 32)
    assert streamed.scores.shape == (0, 2)
    assert streamed.names == []
    kept = maco_batch(neurons(network, 5), **SHORT)
    for index in (0, 1, 3):
        assert torch.equal(torch.cat([part[index] for part in parts]), kept[index])
    assert [name for part in parts for name in part.names] == kept.names


def resident_mebibytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


def test_memory_does_not_grow_with_the_number_of_units():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 160, 3), nn.Tanh()).eval()
    objective = Objective.channel(model, "1", range(160), input_shape=(3, 8, 8))
    # What is there already is not looked at again for each batch.
    gc.collect()
    gc.freeze()
    images: list[weakref.ref] = []
    resident, objects = [], []

    def take(part):
        gc.collect()
        assert all(reference() is None for reference in images[:-1])
        images.append(weakref.ref(part.images))
        resident.append(resident_mebibytes())
        objects.append(len(gc.get_objects()) - len(images))

    settings = SHORT | {"custom_shape": 192, "batch_size": 4}
    maco_batch(objective, **settings, on_result=take, keep=False)
    assert len(resident) == 40
    # 30 batches of 3.4 MiB would make 101 MiB.
    assert resident[-1] - resident[9] < 20
    # One tensor, list or name space kept of each of the 30 batches would make 30. (Bytes would
    # say less: Python keeps freed tuples and floats for later.)
    assert objects[-1] - objects[9] < 30


def test_kept_images_are_copied_once():
    results = MacoResults(5, (3, 4, 4), keep=True)
    batches = [
        MacoBatch(torch.rand(n, 3, 4, 4), torch.rand(n, 3, 4, 4), ["a"] * n, torch.rand(n, 2))
        for n in (2, 2, 1)
    ]
    for batch in batches[:2]:
        results.add(batch)
    some = results.whole()
    results.add(batches[2])
    whole = results.whole()
    assert [len(field) for field in some] == [4] * 4
    for index in (0, 1, 3):
        assert torch.equal(whole[index], torch.cat([batch[index] for batch in batches]))
    for index in (0, 1):
        # The memory is the one that the first batches were copied to.
        assert whole[index].data_ptr() == some[index].data_ptr()


def test_more_than_the_memory_holds_is_refused_before_the_work(network):
    steps = []
    objective = neurons(network, 10)
    settings = SHORT | {"nb_steps": 1, "custom_shape": (2**21, 2**21)}
    with pytest.raises(
        torch.OutOfMemoryError, match=r"GiB are free: pass on_result= .* keep=False"
    ):
        maco_batch(objective, **settings, callback=steps.append)
    assert not steps


def test_keeping_nothing_needs_a_function(network):
    with pytest.raises(ValueError, match="keep=False keeps no image: pass on_result="):
        maco_batch(neurons(network, 2), **SHORT, keep=False)


def test_an_interrupt_leaves_what_was_handed_over(network):
    parts, made = [], []

    def optimizer(parameters):
        made.append(1)
        if len(made) == 3:
            raise KeyboardInterrupt
        return torch.optim.Adam(parameters)

    message = r"interrupted after 4 of 6 images; on_result has had them"
    with pytest.warns(RuntimeWarning, match=message):
        result = maco_batch(
            neurons(network, 6), optimizer, **SHORT, on_result=parts.append, keep=False
        )
    assert sum(len(part.names) for part in parts) == 4
    assert len(result.images) == 0


def test_an_interrupted_batch_is_handed_over(network):
    parts = []

    def interrupt(report):
        if report.names[0] == "Neuron#7_2":
            raise KeyboardInterrupt

    with pytest.warns(RuntimeWarning, match="interrupted after 1 of 2 steps"):
        maco_batch(
            neurons(network, 6), **SHORT, callback=interrupt, on_result=parts.append, keep=False
        )
    assert [part.names for part in parts] == [
        ["Neuron#7_0", "Neuron#7_1"],
        ["Neuron#7_2", "Neuron#7_3"],
    ]


def test_an_error_leaves_what_was_handed_over(network):
    parts = []

    def take(part):
        parts.append(part)
        if len(parts) == 2:
            raise OSError("the disk is full")

    message = r"failed after 4 of 6 images; on_result has had them"
    with (
        pytest.warns(RuntimeWarning, match=message),
        pytest.raises(OSError, match="the disk is full") as caught,
    ):
        maco_batch(neurons(network, 6), **SHORT, on_result=take, keep=False)
    assert len(caught.value.finished.images) == 0


def bars(capfd):
    return [line for line in re.split(r"[\r\n]+", capfd.readouterr().err) if "|" in line]


def test_several_batches_have_one_bar(network, capfd):
    objective = Objective.channel(network, "3", range(5), input_shape=(3, 20, 20))
    maco_batch(objective, **{**SHORT, "progress": True})
    lines = bars(capfd)
    assert all("images [" in line and "/5 " in line for line in lines)
    assert "5.0/5 images" in lines[-1]
    assert "score=" in lines[-1]


def test_one_batch_has_a_bar_of_its_steps(network, capfd):
    objective = Objective.channel(network, "3", range(2), input_shape=(3, 20, 20))
    maco_batch(objective, **{**SHORT, "progress": True})
    lines = bars(capfd)
    assert lines[-1].startswith("2 images: 100%")
    assert "2/2 [" in lines[-1]


def test_an_image_that_ends_early_does_not_stop_the_bar(network, capfd):
    objective = Objective.channel(network, "3", range(4), input_shape=(3, 20, 20))
    ends = {"progress": True, "callback": lambda report: report.step == 0}
    maco_batch(objective, **{**SHORT, **ends})
    assert "4.0/4 images" in bars(capfd)[-1]


@pytest.mark.parametrize("call", [maco, maco_batch, optimize])
def test_results_are_short_where_they_are_printed(network, call):
    objective = Objective.neuron(network, "7", 3, input_shape=(3, 20, 20))
    settings = {"nb_steps": 1, "custom_shape": 32, "progress": False}
    result = call(objective, **settings)
    assert len(repr(result)) < 100
    assert "3 x 32 x 32" in repr(result)
    assert not result.interrupted
    copied = pickle.loads(pickle.dumps(result))
    assert type(copied) is type(result)
    assert all(map(equal, copied, result))
    if call is maco:
        # Tiny pictures are enlarged.
        assert Image.open(io.BytesIO(result._repr_png_())).size == (128, 128)
    else:
        assert result._repr_html_().count("<img src=") == 1


def equal(one, other):
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else str(one) == str(other)


def test_names_in_a_notebook_are_text(network):
    objective = Objective.channel(
        network, "3", range(16), names=["<script>alert(1)</script>", *map(str, range(15))],
        input_shape=(3, 20, 20),
    )  # fmt: skip
    result = maco_batch(objective, nb_steps=1, nb_crops=1, custom_shape=16, progress=False)
    page = result._repr_html_()
    assert "<script" not in page
    assert page.count("<figure") == 16
    many = MacoBatch(*[torch.cat([part] * 2) for part in result[:2]], result.names * 2,
                     result.scores)  # fmt: skip
    assert "and 8 more" in many._repr_html_()


def test_a_loaded_model_is_short_where_it_is_printed():
    loaded = LoadedModel(nn.Sequential(nn.Conv2d(3, 4, 3)), "tiny", (3, 8, 8), categories=["a"])
    expected = "LoadedModel('tiny', Sequential, images of 3 x 8 x 8 in (-1, 1), 1 classes by name)"
    assert repr(loaded) == expected
