"""What a run requires of every parametrization."""

import functools
import importlib
import inspect
import pkgutil

import pytest
import torch

import fvfast.parametrizations
from fvfast.parametrizations.fourier import FourierCoefficients
from fvfast.parametrizations.phase import Phase, init_maco_buffer
from fvfast.parametrizations.photograph_phase import PhotographPhase
from fvfast.parametrizations.pixels import Pixels, to_valid_rgb
from fvfast.parametrizations.pyramid import Pyramid

SIZE = (12, 15)
IDENTITIES = [7, 2**32 - 1, 0]
RANGE = (-1.0, 2.0)


def phase(identities):
    magnitude, start = init_maco_buffer(SIZE, seed=3, identities=identities)
    return Phase(magnitude, start, None, RANGE, SIZE[1])


def phase_by_autograd(identities):
    """As with an optimizer of the user's."""
    magnitude, start = init_maco_buffer(SIZE, seed=3, identities=identities)
    return Phase(magnitude, start, torch.optim.Adam, RANGE, SIZE[1])


def differentiated(kind, identities, **settings):
    to_valid = functools.partial(to_valid_rgb, values_range=RANGE)
    return kind(
        (len(identities), 3, *SIZE), identities, seed=3, std=0.1, to_valid=to_valid,
        optimizer=None, device=torch.device("cpu"), **settings,
    )  # fmt: skip


def photograph():
    """Unbounded pixels (C, H, W)."""
    return torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(1)).cumsum(2)


def photograph_phase(identities):
    magnitude, _ = init_maco_buffer(SIZE)
    return PhotographPhase(magnitude, photograph(), len(identities), None, RANGE)


def pyramid(identities):
    """In the second half of a run, when all levels are there."""
    made = Pyramid(
        (3, *SIZE), identities, seed=3, nb_steps=1, values_range=RANGE, optimizer=None,
        device=torch.device("cpu"),
    )  # fmt: skip
    take_step(made, torch.zeros(1, 3, *SIZE))
    take_step(made, torch.zeros(1, 3, *SIZE))
    return made


MADE = {
    "Phase": phase,
    "Phase, by autograd": phase_by_autograd,
    "FourierCoefficients": functools.partial(differentiated, FourierCoefficients, decay=0.85),
    "Pixels": functools.partial(differentiated, Pixels),
    "PhotographPhase": photograph_phase,
    "FourierCoefficients, of a photograph": lambda identities: differentiated(
        FourierCoefficients, identities, decay=0.85, start=photograph()
    ),
    "Pixels, of a photograph": lambda identities: differentiated(
        Pixels, identities, start=photograph()
    ),
    "Pyramid": pyramid,
}


@pytest.fixture(params=MADE)
def make(request):
    return MADE[request.param]


def take_step(parametrization, direction):
    """One step toward images that look like a direction."""
    score = (parametrization.image() * direction).sum()
    (gradient,) = torch.autograd.grad(score, parametrization.source)
    parametrization.ascend(gradient)


def test_every_parametrization_is_tested():
    """All classes that make images."""
    found = set()
    for module in pkgutil.iter_modules(fvfast.parametrizations.__path__):
        loaded = importlib.import_module(f"fvfast.parametrizations.{module.name}")
        found |= {
            name
            for name, value in inspect.getmembers(loaded, inspect.isclass)
            if value.__module__ == loaded.__name__
            and hasattr(value, "render")
            and not inspect.isabstract(value)
            and not getattr(value, "_is_protocol", False)
        }
    assert found == {name.split(",")[0] for name in MADE}


def test_images_have_the_range_and_are_rendered_as_they_are(make):
    parametrization = make(IDENTITIES)
    rendered = parametrization.render()
    assert not rendered.requires_grad
    assert rendered.shape == (len(IDENTITIES), 3, *SIZE)
    assert rendered.min() >= RANGE[0]
    assert rendered.max() <= RANGE[1]
    assert torch.equal(parametrization.image().detach(), rendered)
    assert len(parametrization.state) == len(IDENTITIES)


def test_an_image_alone_is_what_it_is_in_a_batch(make):
    direction = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    together, alone = make(IDENTITIES), make(IDENTITIES[1:2])
    for _ in range(3):
        assert torch.allclose(together.render()[1:2], alone.render(), atol=1e-5)
        take_step(together, direction)
        take_step(alone, direction)


@pytest.mark.parametrize("name", MADE)
def test_images_begin_differently_unless_they_begin_as_a_photograph(name):
    first, second, _ = MADE[name](IDENTITIES).render()
    assert torch.equal(first, second) == ("photograph" in name.lower())


def test_steps_go_up(make):
    direction = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    parametrization = make(IDENTITIES)
    before = (parametrization.render() * direction).sum((1, 2, 3))
    for _ in range(20):
        take_step(parametrization, direction)
    assert ((parametrization.render() * direction).sum((1, 2, 3)) > before).all()


def test_an_image_can_be_put_back(make):
    """As a run does with one whose score is no longer finite."""
    parametrization = make(IDENTITIES)
    start, rendered = parametrization.state.detach().clone(), parametrization.render()
    take_step(parametrization, torch.ones(1, 3, *SIZE).cumsum(3))
    moved = parametrization.render()
    with torch.no_grad():
        parametrization.state[1:2] = start[1:2]
    assert torch.allclose(parametrization.render()[1], rendered[1], atol=1e-6)
    assert torch.allclose(parametrization.render()[::2], moved[::2], atol=1e-6)
    assert not torch.allclose(parametrization.render()[::2], rendered[::2], atol=1e-3)
