"""What the tests of atlases share: plans of small networks, and a server that speaks S3."""

import contextlib

import pytest
from atlas_networks import CHANNELS

from benchmarks.s3_server import BUCKET, s3_server
from fvfast import atlas

SETTINGS = {"nb_steps": 2, "nb_crops": 2, "custom_shape": 24}
OPTIONS = ["--steps", "2", "--crops", "2", "--size", "24", "--no-progress"]
"""The same on the command line."""


def make_plan(network="tiny", units=range(CHANNELS), layer="0", **settings):
    """A plan for channels of one layer."""
    layers = [atlas.LayerUnits(layer, units)]
    return atlas.make_plan(f"atlas_networks:{network}", layers, **{**SETTINGS, **settings})


@pytest.fixture(scope="session")
def server():
    with s3_server() as running:
        yield running


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.thorough)])
def place(request, tmp_path):
    """An empty place of each sort."""
    if request.param == "folder":
        return atlas.Place(tmp_path / "atlas")
    request.getfixturevalue("server")
    return atlas.Place(f"s3://{BUCKET}/{tmp_path.name}")


@pytest.fixture
def folder(tmp_path):
    return atlas.Place(tmp_path / "atlas")


class Events(list):
    """Collects what happens."""

    def __call__(self, event):
        self.append(event)

    def of(self, kind):
        return [event for event in self if isinstance(event, kind)]


@pytest.fixture
def events():
    return Events()


@contextlib.contextmanager
def replaced(path, data):
    """Another content of a file, for a while."""
    before = path.read_bytes()
    path.write_bytes(data)
    yield
    path.write_bytes(before)
