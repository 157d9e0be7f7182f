"""What Horama's calls leave behind, refuse, and do where Horama fails."""

import gc
import os
import signal
import weakref

import numpy as np
import pytest
import torch
from selection import thorough
from torch import nn

from fvfast import Spectrum, horama
from fvfast.horama import common, fourier_fv, maco_fv, plots

METHODS = ("maco", "fourier", "accentuation")
SHORT = {
    "total_steps": 2, "image_size": 40, "model_input_size": 20, "crops_per_iteration": 2,
    "progress": False, "device": "cpu",
}  # fmt: skip


@pytest.fixture
def objective(network):
    return lambda images: network(images)[:, 3].mean()


def run(method, objective, **settings):
    start = {}
    if method == "accentuation":
        start["image_seed"] = torch.rand(3, 24, 30, generator=torch.Generator().manual_seed(5))
    return getattr(horama, method)(objective, **start, **{**SHORT, **settings})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("resampling", ["horama", "fvfast"])
def test_the_score_rises(method, resampling, objective):
    seen = []

    def watched(images):
        seen.append(objective(images))
        return seen[-1]

    run(
        method, watched, resampling=resampling, total_steps=30, noise=0.0, box_size=(0.9, 0.9),
        seed=0,
    )  # fmt: skip
    assert torch.stack(seen[-5:]).mean() > torch.stack(seen[:5]).mean()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(41, 40), (40, 41), thorough(33), thorough((64, 30))])
@pytest.mark.parametrize("resampling", ["horama", thorough("fvfast")])
def test_any_size_and_one_crop(method, size, resampling, objective):
    """In Horama one crop crashes, as do odd sizes; there are no others than squares."""
    image, alpha = run(
        method, objective, image_size=size, crops_per_iteration=1, resampling=resampling,
        model_input_size=(20, 24),
    )  # fmt: skip
    height, width = (size, size) if isinstance(size, int) else size
    assert image.shape == alpha.shape == (3, height, width)
    assert alpha.sum() > 0


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_left_behind(method, network, objective, tmp_path, monkeypatch):
    """No gradients in the weights, no graph, no file in the working directory."""
    monkeypatch.chdir(tmp_path)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    image, alpha = run(method, objective)
    assert all(one.grad is None for one in network.parameters())
    assert all(one.requires_grad for one in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert image.grad_fn is None
    assert not image.requires_grad
    assert not alpha.requires_grad
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_kept(method, network):
    """The user's function, and with it the network, can be freed at once."""

    def objective(images):
        return network(images)[:, 3].mean()

    gone = weakref.ref(objective)
    gc.collect()
    gc.disable()
    try:
        run(method, objective)
        del objective
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("resampling", ["horama", "fvfast"])
def test_seeds(method, resampling, objective):
    """A seed of the run's own leaves torch's generators alone; without one they decide."""
    before = torch.get_rng_state()
    first = run(method, objective, seed=3, resampling=resampling).image
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(run(method, objective, seed=3, resampling=resampling).image, first)
    assert not torch.equal(run(method, objective, seed=-4, resampling=resampling).image, first)
    images = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        images.append(run(method, objective, resampling=resampling).image)
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_interrupt_keeps_the_result(objective):
    calls = []

    def interrupted(images):
        calls.append(len(images))
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return objective(images)

    with pytest.warns(RuntimeWarning, match="interrupted after 2 of 9 steps"):
        result = run("maco", interrupted, total_steps=9)
    assert result.interrupted
    assert result.image.shape == (3, 40, 40)


def test_a_dead_unit_is_told():
    with pytest.warns(RuntimeWarning, match="gradient was zero"):
        run("maco", lambda images: (images * 0).sum())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("method", METHODS)
def test_within_modes_without_gradients(method, mode, objective):
    with mode():
        _, alpha = run(method, objective)
        assert not torch.is_grad_enabled()
    assert alpha.sum() > 0


def test_kernels_draw_the_image_of_the_reference(objective):
    """From some size on, fvfast's kernels make the image, in units that make it Horama's."""
    size = (322, 322)
    recipe = maco_fv.Recipe(
        function="maco", objective_function=objective, total_steps=1, learning_rate=1.0,
        image_size=size, model_input_size=20, noise=0.0, values_range=(-2.5, 2.5),
        crops_per_iteration=1, box_size=(0.2, 0.2), device="cpu", seed=0, resampling="horama",
        progress=False,
    )  # fmt: skip
    magnitude, phase = maco_fv.init_maco_buffer(size, seed=0)
    assert phase.numel() > maco_fv.MANY_PHASES
    by_kernels = maco_fv.parametrize(recipe, magnitude, phase)
    direction = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    expected_phase = phase.double().requires_grad_()
    nadam = torch.optim.NAdam([expected_phase], lr=1.0)
    for step in range(4):
        expected = maco_fv.maco_preconditioner(magnitude, expected_phase, (-2.5, 2.5), width=322)
        difference = (by_kernels.image() - expected).abs()
        # Where a gradient is nearly 0, rounding decides which way NAdam goes.
        assert difference.square().mean().sqrt() < 2e-4, step
        nadam.zero_grad()
        (-(expected * direction).mean()).backward()
        nadam.step()
        by_kernels.ascend(direction / direction.numel())


def test_spectra(tmp_path, objective):
    """The closed form, a measured spectrum, and the array that Horama downloads."""
    array = np.random.default_rng(0).random((3, 16, 9), dtype=np.float32) + 0.1
    np.save(tmp_path / "spectrum.npy", array)
    magnitude, phase = maco_fv.init_maco_buffer((10, 13), spectrum=tmp_path / "spectrum.npy")
    expected = nn.functional.interpolate(
        torch.from_numpy(array)[None], (10, 7), mode="bilinear", antialias=True
    )[0]
    assert torch.equal(magnitude, expected)
    assert phase.shape == magnitude.shape
    natural, _ = maco_fv.init_maco_buffer((10, 13))
    assert torch.equal(natural, Spectrum.natural().magnitude(10, 13))
    measured = Spectrum.from_images(torch.rand(2, 3, 16, 16), progress=False)
    measured.save(tmp_path / "measured.npz")
    from_file, _ = maco_fv.init_maco_buffer((10, 13), spectrum=tmp_path / "measured.npz")
    assert torch.equal(from_file, measured.magnitude(10, 13))
    image, _ = run("maco", objective, spectrum=str(tmp_path / "spectrum.npy"), seed=0)
    assert not torch.equal(image, run("maco", objective, seed=0).image)


def test_plots():
    """Gray images and a transparency of zeros, with which Horama fails."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    pyplot.figure()
    horama.plot_maco(torch.rand(1, 8, 9), torch.zeros(1, 8, 9))
    drawn = pyplot.gca().get_images()[-1].get_array()
    assert drawn.shape == (8, 9, 4)
    assert np.isfinite(drawn).all()
    plots.show(torch.rand(1, 8, 9))
    plots.show(torch.rand(3, 8, 9))
    assert [one.get_array().shape for one in pyplot.gca().get_images()[1:]] == [(8, 9), (8, 9, 3)]
    pyplot.close()
    assert plots.normalize(np.full((2, 2), 3.0)).max() == 0


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"total_steps": 0}, ValueError, "total_steps must be at least 1, got 0"),
        ({"crops_per_iteration": 0}, ValueError, "crops_per_iteration must be at least 1"),
        ({"learning_rate": "1"}, TypeError, "learning_rate must be a number"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate must be finite"),
        ({"image_size": (3, 4, 5)}, ValueError, "image_size must be the side of a square"),
        ({"image_size": 1}, ValueError, "image_size: the image size is 1 x 1"),
        ({"model_input_size": 0}, ValueError, "model_input_size must be at least 1"),
        ({"noise": -0.1}, ValueError, "noise must not be negative"),
        ({"values_range": (1, -1)}, ValueError, r"values_range is \(1, -1\)"),
        ({"box_size": (0.3, 0.2)}, ValueError, r"box_size must be \(low, high\)"),
        ({"box_size": 0.3}, ValueError, r"box_size must be \(low, high\)"),
        ({"device": "gpu"}, ValueError, "the device 'gpu' cannot be used"),
        ({"seed": 0.5}, TypeError, "seed must be an integer"),
        ({"resampling": "best"}, ValueError, 'resampling must be "horama" or "fvfast"'),
        ({"objective": 3}, TypeError, "objective_function must be a function"),
    ],
)
@pytest.mark.parametrize("method", ["maco", thorough("fourier"), thorough("accentuation")])
def test_wrong_arguments(method, settings, error, message, objective):
    with pytest.raises(error, match=message):
        run(method, **{"objective": objective, **settings})


@pytest.mark.parametrize("settings", [{"image_size": 10**7}, {"crops_per_iteration": 10**12}])
@pytest.mark.parametrize("method", METHODS)
def test_what_does_not_fit_the_memory(method, settings, objective):
    message = r"ask for a smaller image \(image_size\) or fewer crops \(crops_per_iteration\)"
    with pytest.raises(torch.OutOfMemoryError, match=message):
        run(method, objective, **settings)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"penalty": "1"}, TypeError, "penalty must be a number"),
        ({"penalty": float("nan")}, ValueError, "penalty must be finite"),
        ({"decay_power": None}, TypeError, "decay_power must be a number"),
        ({"decay_power": float("inf")}, ValueError, "decay_power must be finite"),
    ],
)
def test_wrong_arguments_of_accentuation(settings, error, message, objective):
    with pytest.raises(error, match=message):
        run("accentuation", objective, **settings)


@pytest.mark.parametrize(
    ("objective", "error", "message"),
    [
        (lambda images: images.mean((1, 2, 3)), ValueError, r"shape \(2,\); expected one real"),
        (lambda images: images.mean().item(), TypeError, "returned float; expected a tensor"),
        (lambda images: images.detach().mean(), ValueError, "does not depend on the images"),
        (
            lambda _: torch.zeros(1, requires_grad=True).sum(),
            ValueError,
            "does not depend on the images",
        ),
    ],
)
def test_wrong_objectives(objective, error, message):
    with pytest.raises(error, match=message):
        run("maco", objective)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        ("photo.jpg", TypeError, "must be a tensor"),
        (torch.rand(1, 8, 8), ValueError, r"shape \(1, 8, 8\); expected \(3, H, W\)"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), ValueError, "torch.uint8"),
        (torch.full((3, 8, 8), float("nan")), ValueError, "not finite"),
    ],
)
def test_wrong_photographs(image, error, message, objective):
    with pytest.raises(error, match=message):
        horama.accentuation(objective, image, **SHORT)


def test_a_wrong_spectrum(objective):
    with pytest.raises(TypeError, match=r"spectrum must be a fvfast\.Spectrum"):
        run("maco", objective, spectrum=3)
    with pytest.raises(ValueError, match="width is 9, and phase has 3 columns"):
        maco_fv.maco_preconditioner(torch.ones(3, 4, 3), torch.ones(3, 4, 3), (0, 1), width=9)
    with pytest.raises(ValueError, match=r"expected \(3, H, W // 2 \+ 1\)"):
        fourier_fv.fourier_preconditionner(torch.ones(1, 4, 3), torch.ones(1, 4, 3), (0, 1))


def test_optimization_step_is_the_step_of_the_methods(objective):
    """Same draws, same score; the image keeps its gradient."""
    image = torch.rand(3, 40, 40, requires_grad=True) * 2
    losses = []
    for _ in range(2):
        torch.manual_seed(0)
        loss, same = common.optimization_step(objective, image, (0.2, 0.25), 0.05, 2, 20)
        assert same is image
        losses.append(loss)
    assert losses[0] == losses[1]
    losses[0].backward()
    assert image.grad.abs().sum() > 0
    with pytest.raises(ValueError, match=r"expected \(3, H, W\)"):
        common.optimization_step(objective, image[None], (0.2, 0.25), 0.05, 2, 20)
    with pytest.raises(ValueError, match=r"expected \(low, high\)"):
        common.optimization_step(objective, image, (0.3, 0.25), 0.05, 2, 20)
