"""docs/messages.md quotes what the code says: each quoted message is raised here and compared."""

import json
import os
import re
import signal
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
import typer
from test_damaged_images import png
from torch import nn
from torch.utils.checkpoint import checkpoint

from fvfast import Objective, Spectrum, atlas, horama, maco, maco_batch
from fvfast.cli.arguments import parse_ids, parse_layer
from fvfast.cli.existing import SETTINGS, finished
from fvfast.cli.stopping import StopRequest
from fvfast.engine.network.layers import trace_layers
from fvfast.files.dictionaries import read_dictionary
from fvfast.lucent.optvis import param, render
from fvfast.models import LoadedModel
from fvfast.plot import plot_maco, save_png

PAGE = Path(__file__).parents[1] / "docs" / "messages.md"
INPUT = (3, 8, 8)
SHORT = {"nb_steps": 1, "nb_crops": 3, "custom_shape": 12, "progress": False}


def quotes():
    """The quoted message below each heading of the page, by heading."""
    parts = re.split(r"^### (.+)$", PAGE.read_text(), flags=re.MULTILINE)[1:]
    found = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        (block,) = re.findall(r"(?:^> .+\n)+", body, flags=re.MULTILINE)
        found[name] = " ".join(line.removeprefix("> ") for line in block.splitlines())
    return found


class Mixed(nn.Module):
    """Layers that a score cannot read, or only with more said."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.map, self.fourier, self.indices, self.turned = (nn.Identity() for _ in range(4))
        self.unused = nn.Linear(1, 1)

    def forward(self, x):
        x = self.conv(x)
        last = x.permute(0, 2, 3, 1)
        self.map(last @ last.transpose(-1, -2))
        self.fourier(torch.fft.fft2(x))
        self.indices(x.argmax(1))
        self.turned(x.flatten(2).permute(1, 0, 2))
        return x


class Rows(nn.Module):
    """Makes one row of its images."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3 * 64, 4)

    def forward(self, x):
        return self.head(x.view(1, -1))


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return checkpoint(self.conv, x, use_reentrant=True)


class Small(nn.Module):
    """Runs out of memory with more than two images."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        if len(x) > 2:
            raise torch.OutOfMemoryError("too much")
        return self.conv(x)


def mixed():
    return Mixed().eval()


def plain():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()


def hooked():
    network = plain()
    network[1].register_forward_hook(lambda *_: None)
    return network


def numbered():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU()), nn.Flatten()).eval()


def channel(model, layer="0", ids=0, **settings):
    return Objective.channel(model, layer, ids, input_shape=INPUT, **settings)


def inversion():
    return Objective.inversion(plain(), "0", torch.zeros(INPUT), input_shape=INPUT)


def function(score):
    return Objective.from_callable(None, score, input_shape=INPUT)


def normalized():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)).eval()


def dead():
    model = plain()
    model[0].weight.data.zero_()
    model[0].bias.data.fill_(-1)
    return model


def interrupted():
    made = []

    def optimizer(parameters):
        made.append(1)
        if len(made) == 2:
            raise KeyboardInterrupt
        return torch.optim.Adam(parameters)

    many = channel(plain(), ids=range(3))
    settings = {"batch_size": 1, "on_result": lambda _: None, "keep": False}
    maco_batch(many, optimizer, **SHORT, **settings)


def skipped():
    with tempfile.TemporaryDirectory() as folder:
        for name, side in (("whole.png", 8), ("large.png", 12000)):
            (Path(folder) / name).write_bytes(png(side, side, side % 12000))
        Spectrum.from_images(folder, (8, 8), progress=False)


def unreadable():
    with tempfile.NamedTemporaryFile() as file:
        Spectrum.from_file(file.name)


def pickled():
    with tempfile.NamedTemporaryFile() as file:
        torch.save({"cfg": Path("settings")}, file.name)
        read_dictionary(file.name)


def other_pictures():
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("a.png", "b.png")]
        for path in paths:
            save_png(path, torch.rand(3, 4, 4), metadata={SETTINGS: json.dumps({"seed": 0})})
        settings = [(path, {"seed": 1}) for path in paths]
        finished(settings, with_arrays=False, overwrite=False)


def seeded():
    torch.manual_seed(0)
    return LoadedModel(plain(), "seeded", INPUT)


class Hungry(nn.Module):
    """Takes so much memory that no four views fit, as an allocation of the device says it."""

    def forward(self, x):
        if len(x) >= 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return x * 1


def hungry():
    torch.manual_seed(0)
    return LoadedModel(nn.Sequential(Hungry(), *plain()).eval(), "hungry", INPUT)


def unseeded():
    torch.seed()
    return LoadedModel(plain(), "unseeded", INPUT)


def planned(network=f"{__name__}:seeded", **settings):
    return atlas.make_plan(network, ["0"], **{"nb_steps": 1, "custom_shape": 12, **settings})


def another_plan():
    with tempfile.TemporaryDirectory() as folder:
        atlas.begin(planned(), atlas.Place(folder))
        atlas.begin(planned(seed=1), atlas.Place(folder))


def too_many_together():
    plan = planned(f"{__name__}:hungry", nb_crops=2, batch_size=2)
    with tempfile.TemporaryDirectory() as folder:
        place = atlas.Place(folder)
        atlas.begin(plan, place)
        atlas.run_shard(plan, 0, place, worker=atlas.Worker(plan, device="cpu", must_fit=True))


def away():
    with tempfile.TemporaryDirectory() as folder:
        place = atlas.Place(folder, patience=0.01)
        atlas.begin(planned(), place)
        (Path(folder) / "plan.json").unlink()
        place.put("units/0/1.png", b"")


def stopped():
    """What a signal writes, which goes past Python's streams."""
    reading, writing = os.pipe()
    kept = os.dup(2)
    os.dup2(writing, 2)
    try:
        request = StopRequest()
        with request.later():
            request.interrupt(signal.SIGINT)
    finally:
        os.dup2(kept, 2)
        for file in (writing, kept):
            os.close(file)
    with os.fdopen(reading) as written:
        raise KeyboardInterrupt(written.read().strip())


def lucent(objective, **settings):
    """Draw with Lucent's function, with a network for images of 20 pixels; these have 16."""
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 18 * 18, 3)).eval()
    usual = {"thresholds": [1], "progress": False, "show_image": False, "fixed_image_size": 16}
    render.render_vis(model, objective, lambda: param.image(8), **{**usual, **settings})


CASES = {
    "An unknown name": lambda: channel(mixed(), "cov"),
    "A layer that is not called": lambda: channel(mixed(), "unused"),
    "A number that is a name and an index": lambda: parse_layer(
        "2", trace_layers(nn.Sequential(nn.Sequential(nn.ReLU(), nn.ReLU(), nn.ReLU()),
                                        nn.ReLU(), nn.ReLU()), INPUT)
    ),
    "Where the channels are": lambda: channel(mixed(), "map"),
    "A channel out of range": lambda: channel(plain(), ids=4),
    "Directions of another width": lambda: Objective.direction(
        plain(), "0", torch.ones(3, 9), input_shape=INPUT
    ),
    "Complex outputs": lambda: channel(mixed(), "fourier"),
    "Outputs without a gradient": lambda: channel(mixed(), "indices"),
    "The batch must come first": lambda: channel(mixed(), "turned"),
    "Images of another shape": lambda: Objective.channel(plain(), "0", 0, input_shape=(4, 8, 8)),
    "Preprocessing that fails": lambda: channel(plain(), preprocess=lambda x: x.convert("RGB")),
    "Preprocessing that returns something else": lambda: channel(
        plain(), preprocess=lambda x: {"pixel_values": x}
    ),
    "Crops for a small network": lambda: maco(channel(plain()), **SHORT),
    "Crops of a photograph": lambda: maco(inversion(), **SHORT),
    "Another range than the photograph's": lambda: maco(inversion(), values_range=(0, 1), **SHORT),
    "Statistics of the batch": lambda: channel(normalized(), "1"),
    "One image at a time": lambda: maco(channel(Rows().eval(), "head"), **SHORT),
    "Training mode": lambda: maco(channel(plain().train()), **SHORT),
    "Not compiled": lambda: maco(channel(hooked()), **{**SHORT, "nb_steps": 2}, compile=True),
    "A score that does not depend on the image": lambda: maco(
        channel(Checkpointed().eval(), "conv"), **SHORT
    ),
    "Complex scores": lambda: maco(function(lambda x: torch.fft.fft(x).mean()), **SHORT),
    "Not finite": lambda: maco(function(lambda x: x.mean() / 0), **SHORT),
    "A gradient of zero": lambda: maco(channel(dead(), "1"), **SHORT),
    "A part of a group": lambda: Objective.diversity(plain(), "0", input_shape=INPUT).scorer([0]),
    "Several pictures at once": lambda: maco(channel(plain(), ids=[0, 1]), **SHORT),
    "A pass that does not fit": lambda: maco(channel(Small().eval(), "conv"), **SHORT),
    "A run that does not fit": lambda: maco(channel(plain()), **SHORT | {"nb_crops": 10**12}),
    "Images of each step": lambda: maco(
        channel(plain()), **SHORT | {"nb_steps": 10**12}, save_every=1
    ),
    "A whole layer": lambda: maco_batch(
        channel(plain(), ids=range(4)), **SHORT | {"custom_shape": (2**21, 2**21)}
    ),
    "Keeping nothing": lambda: maco_batch(channel(plain()), **SHORT, keep=False),
    "Interrupted with keep=False": interrupted,
    "A range beyond float32": lambda: maco(channel(plain()), **SHORT, values_range=(-3e38, 3e38)),
    "A spectrum of other channels": lambda: maco(
        channel(plain()),
        maco_dataset=Spectrum.from_images(torch.rand(2, 1, 8, 8), progress=False),
        **SHORT,
    ),
    "A data set for a pyramid": lambda: maco(
        channel(plain()), maco_dataset=Spectrum.natural(), **SHORT, preset="pyramid"
    ),
    "Images of a data set": lambda: maco(
        channel(plain()), maco_dataset=torch.ones(1, 3, 8, 8, dtype=torch.uint8), **SHORT
    ),
    "Images that were skipped": skipped,
    "A spectrum that cannot be read": unreadable,
    "A photograph of other values": lambda: maco(
        channel(plain()), initial=torch.rand(3, 8, 8) * 255, **SHORT
    ),
    "A photograph that cannot be read": lambda: maco(channel(plain()), initial=__file__, **SHORT),
    "A score of several numbers": lambda: horama.maco(
        lambda images: images.mean((1, 2, 3)), progress=False, image_size=8, model_input_size=8
    ),
    "A pickle": pickled,
    "More channels than a picture has": lambda: plot_maco(torch.rand(5, 8, 8)),
    "A transparency of another picture": lambda: plot_maco(
        torch.rand(3, 8, 8), torch.rand(5, 8, 9)
    ),
    "Another plan in the place": another_plan,
    "Another number of pictures together": lambda: atlas.Worker(
        planned(batch_size=2), batch_size=3
    ),
    "A batch that does not fit a worker's memory": too_many_together,
    "A batch size that cannot be measured": lambda: planned(batch_size="auto", device="cpu"),
    "Other weights on a worker": lambda: atlas.Worker(planned(f"{__name__}:unseeded")),
    "A network that has no name": lambda: planned(plain()),
    "A place that cannot be written": lambda: atlas.Place("data:,x").check_writable(),
    "A place that is away": away,
    "A network that fails behind the layers that are read": lambda: lucent("0:1"),
    "A loss without a gradient": lambda: lucent(lambda layers: layers("0").detach().mean()),
    "One threshold": lambda: lucent("0:1", thresholds=512),
    "A folder with other pictures": other_pictures,
    "Something other than a file": lambda: save_png(os.devnull, torch.rand(3, 8, 8)),
    "Too many numbers": lambda: parse_ids("0-9999999999"),
    "Interrupted": stopped,
}  # fmt: skip


def said_by(case):
    """What a case raises, and what it warns of."""
    said = []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            case()
        except (
            ValueError, TypeError, OSError, torch.OutOfMemoryError, typer.BadParameter,
            KeyboardInterrupt, atlas.NotEnoughMemoryError, atlas.OtherNetworkError,
        ) as error:  # fmt: skip
            said.append(str(error))
    return said + [str(warning.message) for warning in told]


def test_every_message_of_the_page_has_a_case_and_every_case_a_message():
    assert list(quotes()) == list(CASES)


@pytest.mark.parametrize("heading", CASES)
def test_the_page_quotes_the_code(heading):
    quote = quotes()[heading]
    literal = quote.split("...")
    # The page says something, and not only dots.
    assert sum(map(len, literal)) >= 40
    pattern = re.compile(".+?".join(map(re.escape, literal)), re.DOTALL)
    said = said_by(CASES[heading])
    ends = quote.endswith("...")
    assert any((pattern.match if ends else pattern.fullmatch)(text) for text in said), said
