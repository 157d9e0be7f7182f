"""The distribution of noise: moments, spectrum, and the independence of its two parts.

What is measured on n numbers must be within SIGMAS of its own standard deviations, which chance
exceeds once in 5e8 comparisons. Numbers depend on the seed alone: a test that passes always passes.
"""

import functools
import itertools
import math

import pytest
import torch
from selection import short_for

from fvfast.ops import inject_noise
from fvfast.ops.philox import Purpose, random_words, to_centered, to_normal, to_uniform
from fvfast.run.presets import PRESETS
from fvfast.run.schedules import schedule_of

pytestmark = pytest.mark.cpu_only

SIGMAS = 6
CHANCE = 1e-9  # of a test that compares with more than the standard deviation of one number
COUNT = 2**21
KEY = {"seed": 0x0FED_CBA9_8765_4321, "identities": [11], "step": 5}
BITS = 24  # of a word, that make a normal number


def recipes():
    """The standard deviation and the width of each preset's noise, in its first step."""
    for name, preset in PRESETS.items():
        intensity = preset.arguments.get("noise_intensity", 0.08)
        first = schedule_of("noise_intensity", intensity, 8)(0)
        yield pytest.param(
            first * preset.normal_noise, first * preset.uniform_noise, id=f"recipe {name}"
        )


PARTS = [
    pytest.param(1.0, 0.0, id="normal"),
    pytest.param(0.0, 1.0, id="uniform"),
    pytest.param(1.0, 1.0, id="both"),
]


def noise(*shape, std=1.0, width=1.0, **changes):
    arguments = {**KEY, "uniform_width": width, **changes}
    zeros = torch.zeros(len(arguments["identities"]), *shape)
    return inject_noise(zeros, std, **arguments).double()


@functools.cache
def words(count=COUNT):
    return random_words(count, purpose=Purpose.NOISE, **KEY)[0]


@functools.cache
def uniform_moments():
    """E[u^k], k = 0, ..., 8, of the 256 numbers."""
    levels = (torch.arange(256, dtype=torch.float64) - 127.5) / 256
    return [(levels**k).mean().item() for k in range(9)]


def moments(std, width):
    """E[x^k], k = 0, ..., 8, of the sum of both parts: they are independent."""
    normal = [1, 0, 1, 0, 3, 0, 15, 0, 105]
    uniform = uniform_moments()
    return [
        sum(
            math.comb(k, j) * std**j * normal[j] * width ** (k - j) * uniform[k - j]
            for j in range(k + 1)
        )
        for k in range(9)
    ]


def test_uniform_part_has_256_levels_of_mean_zero():
    levels = to_centered(torch.arange(2**12), torch.float64)
    assert torch.equal(levels[:256], (torch.arange(256, dtype=torch.float64) - 127.5) / 256)
    assert torch.equal(levels.reshape(-1, 256), levels[:256].expand(16, 256))  # the lower 8 bits
    assert levels.sum().item() == 0
    assert levels.square().mean().item() == (1 - 2**-16) / 12
    assert levels.pow(4).mean().item() == pytest.approx(
        1 / 80 - 2**-16 / 24 + 7 / 240 * 2**-32, rel=1e-12
    )


@pytest.mark.every_instruction_set
def test_uniform_part_is_exactly_the_lower_bits_of_each_word():
    """Also where the element's number is not a multiple of what kernels make at once."""
    count = 3 * 5 * 1031
    expected = to_centered(words(count))
    assert torch.equal(noise(3, 5, 1031, std=0.0)[0].flatten(), expected.double())
    strided = noise(3, 1031, 5, std=0.0).transpose(2, 3)
    assert torch.equal(strided[0].transpose(1, 2).flatten(), expected.double())


@pytest.mark.every_instruction_set
def test_normal_part_does_not_depend_on_the_lower_bits():
    """What is left of the sum without its uniform part is the normal part, up to rounding."""
    count = 2**16
    both, normal = noise(count), noise(count, width=0.0)
    error = (both - normal - to_centered(words(count), torch.float64)).abs().max().item()
    # The sum, below 8, is rounded to half a unit of 2^-21; it may be two sums.
    assert error <= 2 * 2.0**-22
    assert torch.equal(to_normal(words(count) | 0xFF), to_normal(words(count) & ~0xFF))


def test_moments_of_all_radii_are_those_of_a_normal_distribution():
    """All 2^24 radii: E[r^2] = 2 and E[r^4] = 8; the angles are equidistant, and lose nothing.

    The sum over n / 2^24 of a function that falls, n = 1, 2, ..., differs from its integral by less
    than the integral of the first interval, from 0 to 2^-24: h (2 + a) and h (a^2 + 4 a + 8), where
    h = 2^-24 and a = -2 log h.
    """
    squares = []
    for first in range(0, 2**BITS, 2**20):
        n = torch.arange(first + 1, first + 2**20 + 1, dtype=torch.float64)
        squares.append(n.mul_(2.0**-BITS).log_().mul_(-2))
    h, a = 2.0**-BITS, 2 * BITS * math.log(2)
    second = sum(part.sum().item() for part in squares) / 2**BITS
    fourth = sum(part.square().sum().item() for part in squares) / 2**BITS
    assert 2 - h * (2 + a) <= second <= 2
    assert 8 - h * (a**2 + 4 * a + 8) <= fourth <= 8


@pytest.mark.parametrize(("std", "width"), [*PARTS, *recipes()])
def test_moments(std, width):
    """Mean, variance, skewness and kurtosis: E[x^k] for k = 1 to 4, whose theory is exact."""
    expected = moments(std, width)
    numbers = noise(COUNT, std=std, width=width)[0]
    for k in range(1, 5):
        spread = math.sqrt((expected[2 * k] - expected[k] ** 2) / COUNT)
        assert abs((numbers**k).mean().item() - expected[k]) < SIGMAS * spread


def correlation(a, b):
    """Sum of products over its standard deviation, for independent numbers of mean 0."""
    a, b = a.flatten() - a.mean(), b.flatten() - b.mean()
    return ((a * b).sum() / (a.square().sum() * b.square().sum()).sqrt()).item() * math.sqrt(
        a.numel()
    )


FUNCTIONS = {"x": lambda x: x, "x^2": torch.square, "|x|": torch.abs}
SHAPE = (4, 8, 3, 64, 64)  # images, crops, channels, rows, columns


def shifted(numbers, axis, lag):
    size = numbers.shape[axis]
    return numbers.narrow(axis, 0, size - lag), numbers.narrow(axis, lag, size - lag)


@pytest.mark.parametrize(("std", "width"), PARTS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_neighbors_of_any_kind_are_not_correlated(std, width, function):
    """Along columns, rows, channels, crops and images; diagonals; other steps, seeds, images."""
    key = {"std": std, "width": width, "identities": list(range(7, 7 + SHAPE[0]))}
    first = noise(*SHAPE[1:], **key)
    pairs = {
        (axis, lag): shifted(first, axis, lag)
        for axis, lags in enumerate([(1,), (1, 2), (1,), (1, 2, 3), range(1, 9)])
        for lag in lags
    }
    pairs["diagonal"] = first[..., 1:, 1:], first[..., :-1, :-1]
    pairs["other diagonal"] = first[..., 1:, :-1], first[..., :-1, 1:]
    for name, change in {
        "step": {"step": KEY["step"] + 1},
        "seed": {"seed": KEY["seed"] + 1},
        "upper half of the seed": {"seed": KEY["seed"] + 2**32},
        "identities": {"identities": [identity + 2**20 for identity in key["identities"]]},
    }.items():
        pairs[name] = first, noise(*SHAPE[1:], **{**key, **change})
    apply = FUNCTIONS[function]
    found = {name: correlation(apply(a), apply(b)) for name, (a, b) in pairs.items()}
    assert {name: value for name, value in found.items() if abs(value) >= SIGMAS} == {}


def periodograms(std, width):
    """The mean power of each frequency that is not real, and of how many planes it is the mean."""
    planes = noise(32, 16, 64, 64, std=std, width=width).flatten(0, 2)
    power = torch.fft.rfft2(planes, norm="ortho").abs().square() / moments(std, width)[2]
    return power[:, :, 1:-1].mean(0), planes.shape[0]


@pytest.mark.parametrize(("std", "width"), PARTS)
def test_spectrum_is_white(std, width):
    """Each frequency, and each band of frequencies, has the mean power 1.

    A power is exponentially distributed, and the mean of M of them has a gamma distribution:
    P(|mean - 1| > t) <= 2 exp(-M (t - log(1 + t))) for t > 0 (Chernoff). The mean of a band of B
    frequencies has the variance 1 / (M B), and less where the kurtosis is below that of a normal.
    """
    power, planes = periodograms(std, width)
    largest = (power - 1).abs().max().item()
    exponent = planes * (largest - math.log1p(largest))
    assert 2 * power.numel() * math.exp(-exponent) > CHANCE
    rows = torch.fft.fftfreq(64, dtype=torch.float64)[:, None]
    columns = torch.fft.rfftfreq(64, dtype=torch.float64)[None, 1:-1]
    radius = (rows**2 + columns**2).sqrt()
    for low, high in itertools.pairwise([0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.71]):
        band = power[(radius >= low) & (radius < high)]
        assert abs(band.mean().item() - 1) < SIGMAS / math.sqrt(planes * band.numel())


def test_a_spectrum_that_is_not_white_is_found():
    """The same band as above, of noise whose neighbors are correlated by 0.01."""
    planes = noise(32, 16, 64, 64).flatten(0, 2)
    planes = planes + 0.01 * planes.roll(1, -1)
    power = torch.fft.rfft2(planes, norm="ortho").abs().square() / moments(1, 1)[2]
    band = power[:, :, 1:8].mean()
    assert abs(band.item() - 1) > SIGMAS / math.sqrt(planes.shape[0] * 64 * 7)


@pytest.mark.parametrize("of_normal", FUNCTIONS)
@pytest.mark.parametrize("of_uniform", FUNCTIONS)
def test_parts_are_not_correlated(of_normal, of_uniform):
    """The uniform number of a word with the normal numbers that this word is a part of."""
    drawn = words()
    normal = FUNCTIONS[of_normal](to_normal(drawn, torch.float64)).reshape(-1, 2)
    uniform = FUNCTIONS[of_uniform](to_centered(drawn, torch.float64)).reshape(-1, 2)
    for i, j in itertools.product(range(2), range(2)):
        assert abs(correlation(normal[:, i], uniform[:, j])) < SIGMAS


def excess_of_chi_square(cells, count):
    """How far chi^2 of equally likely cells is beyond what CHANCE allows: positive, or not.

    P(chi^2 >= d + 2 sqrt(d x) + 2 x) <= exp(-x) (Laurent and Massart, 2000).
    """
    expected = cells.numel() / count
    observed = torch.bincount(cells, minlength=count).double()
    x, degrees = -math.log(CHANCE), count - 1
    chi_square = ((observed - expected).square() / expected).sum().item()
    return chi_square - (degrees + 2 * math.sqrt(degrees * x) + 2 * x)


def classes(normal, count):
    """Equally likely classes of normal numbers."""
    return (torch.special.ndtr(normal) * count).long().clamp(0, count - 1)


@pytest.mark.parametrize("word", [0, 1], ids=["radius", "angle"])
def test_lower_bits_are_independent_of_both_normal_numbers_of_the_pair(word):
    """Of 8 x 8 classes of pairs and 256 lower bytes, all combinations are equally likely."""
    drawn = words()
    first, second = to_normal(drawn, torch.float64).reshape(-1, 2).unbind(1)
    pairs = drawn.reshape(-1, 2)
    cells = (classes(first, 8) * 8 + classes(second, 8)) * 256
    assert excess_of_chi_square(cells + (pairs[:, word] & 0xFF), 8 * 8 * 256) < 0
    # A byte that the normal numbers are made of is found.
    assert excess_of_chi_square(cells + (pairs[:, word] >> 22 & 0xFF), 8 * 8 * 256) > 0


@pytest.mark.parametrize("word", [0, 1], ids=["radius", "angle"])
@pytest.mark.parametrize("shift", short_for([8, 24], [8, 12, 16, 20, 24]))
def test_lower_byte_is_independent_of_the_other_bytes_of_its_word(word, shift):
    drawn = words().reshape(-1, 2)[:, word]
    cells = (drawn & 0xFF) * 256 + (drawn >> shift & 0xFF)
    assert excess_of_chi_square(cells, 2**16) < 0


def test_a_uniform_part_of_the_upper_bits_would_be_found():
    """What the tests above must notice: numbers of the same bits as the normal ones."""
    drawn = words()
    normal = to_normal(drawn, torch.float64).reshape(-1, 2)
    uniform = to_uniform(drawn, torch.float64).sub(0.5).reshape(-1, 2)
    radius_seen = correlation(normal[:, 0].square(), uniform[:, 0])
    angle_seen = correlation(normal[:, 1], uniform[:, 1])
    assert abs(radius_seen) > SIGMAS
    assert abs(angle_seen) > SIGMAS
