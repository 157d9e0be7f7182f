import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

matplotlib.use("Agg")

from matplotlib import pyplot

from fvfast.plot import blend_transparency, plot_grid, plot_maco, save_png
from fvfast.run.results import MacoBatch, MacoImage, OptimizedImages


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    pyplot.close("all")


@pytest.fixture
def picture():
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(3, 20, 24, generator=generator).tanh()
    alpha = torch.rand(3, 20, 24, generator=generator) ** 3
    return image, alpha


def by_hand(image, alpha, percentile_image, percentile_alpha, style):
    """The published formulas, pixel by pixel in plain Python."""
    channels, height, width = image.shape
    flat = sorted(image.flatten().tolist())
    low = percentile(flat, percentile_image)
    high = percentile(flat, 100 - percentile_image)
    opacity = [
        [sum(float(alpha[c, y, x]) for c in range(channels)) / channels for x in range(width)]
        for y in range(height)
    ]
    ceiling = percentile(sorted(v for row in opacity for v in row), percentile_alpha)
    opacity = [[min(max(v, 0.0), ceiling) / ceiling for v in row] for row in opacity]
    values = [
        [
            [
                min(max(float(image[c, y, x]), low), high)
                * (opacity[y][x] if style == "xplique" else 1.0)
                for c in range(channels)
            ]
            for x in range(width)
        ]
        for y in range(height)
    ]
    flat = [v for row in values for pixel in row for v in pixel]
    least, most = min(flat), max(flat)
    return np.array(
        [
            [
                [(v - least) / (most - least) for v in values[y][x]] + [opacity[y][x]]
                for x in range(width)
            ]
            for y in range(height)
        ]
    )


def percentile(ordered, percent):
    """Linear interpolation between the closest ranks."""
    position = (len(ordered) - 1) * percent / 100
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


@pytest.mark.parametrize("style", ["xplique", "horama"])
@pytest.mark.parametrize("percentiles", [(1.0, 80.0), (0.0, 100.0), (12.5, 33.0)])
def test_blending_follows_the_published_formula(picture, style, percentiles):
    expected = by_hand(*picture, *percentiles, style)
    rgba = blend_transparency(*picture, *percentiles, style=style)
    assert rgba.dtype == np.float32
    np.testing.assert_allclose(rgba, expected, atol=1e-6)


def test_the_styles_differ(picture):
    xplique = blend_transparency(*picture)
    horama = blend_transparency(*picture, style="horama")
    assert np.abs(xplique[..., :3] - horama[..., :3]).max() > 0.1
    np.testing.assert_array_equal(xplique[..., 3], horama[..., 3])


def test_channels_first_and_last_and_types_agree(picture):
    image, alpha = picture
    expected = blend_transparency(image, alpha)
    last = blend_transparency(image.permute(1, 2, 0), alpha.permute(1, 2, 0).numpy())
    np.testing.assert_array_equal(last, expected)
    learned = image.clone().requires_grad_()
    np.testing.assert_array_equal(blend_transparency(learned, alpha), expected)
    coarse = blend_transparency(image.bfloat16(), alpha.bfloat16())
    np.testing.assert_allclose(coarse, expected, atol=0.03)


def test_a_shape_that_could_be_both_is_channels_first():
    image = torch.zeros(3, 4, 3)
    image[0] = 1.0
    rgba = blend_transparency(image, percentile_image=0.0)
    assert rgba.shape == (4, 3, 4)
    np.testing.assert_array_equal(rgba[2, 1], [1.0, 0.0, 0.0, 1.0])


@pytest.mark.parametrize("shape", [(1, 5, 7), (5, 7, 1), (5, 7)])
def test_gray_pictures_become_gray_colors(shape):
    image = torch.linspace(0, 1, 35).reshape(shape)
    rgba = blend_transparency(image, torch.ones(1, 5, 7), percentile_image=0.0)
    assert rgba.shape == (5, 7, 4)
    for channel in range(3):
        np.testing.assert_allclose(rgba[..., channel].ravel(), np.linspace(0, 1, 35), atol=1e-6)


@pytest.mark.parametrize("style", ["xplique", "horama"])
@pytest.mark.parametrize("alpha", [None, torch.zeros(3, 6, 5)])
def test_no_transparency_is_opaque(alpha, style):
    image = torch.arange(90.0).reshape(3, 6, 5)
    rgba = blend_transparency(image, alpha, percentile_image=0.0, style=style)
    np.testing.assert_array_equal(rgba[..., 3], 1.0)
    np.testing.assert_allclose(rgba[..., 0], image[0] / 89.0, atol=1e-6)


def test_a_transparency_that_is_mostly_zero_keeps_its_spot():
    alpha = torch.zeros(3, 10, 10)
    alpha[:, 3, 4] = 2.0
    alpha[:, 5, 5] = 1.0
    opacity = blend_transparency(torch.rand(3, 10, 10), alpha)[..., 3]
    assert opacity[3, 4] == 1.0
    assert opacity[5, 5] == 0.5
    assert np.count_nonzero(opacity) == 2


def test_a_picture_of_one_value_is_black_not_nan():
    rgba = blend_transparency(torch.full((3, 4, 4), 0.7), style="horama")
    np.testing.assert_array_equal(rgba[..., :3], 0.0)


numbers = st.floats(-1e6, 1e6, width=32)


@settings(deadline=None)
@given(
    image=hnp.arrays(np.float32, (3, 4, 5), elements=numbers),
    alpha=hnp.arrays(np.float32, (3, 4, 5), elements=numbers),
    style=st.sampled_from(["xplique", "horama"]),
    percentile_image=st.floats(0, 50),
    percentile_alpha=st.floats(0, 100),
)
def test_any_picture_gives_colors_in_range(image, alpha, style, percentile_image, percentile_alpha):
    rgba = blend_transparency(image, alpha, percentile_image, percentile_alpha, style=style)
    assert rgba.shape == (4, 5, 4)
    assert rgba.min() >= 0.0
    assert rgba.max() <= 1.0
    assert np.isfinite(rgba).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": torch.zeros(1, 3, 4, 4)}, r"take one picture of the batch, image\[0\]"),
        ({"image": torch.zeros(2, 8, 8)}, "expected 1 or 3 channels"),
        ({"image": torch.zeros(5, 8, 8)}, r"choose some: image\[:3\]"),
        ({"image": torch.zeros(3, 0, 8)}, "image has shape"),
        ({"image": torch.full((3, 4, 4), torch.nan)}, "not finite"),
        (
            {"image": torch.zeros(3, 4, 4), "alpha": torch.zeros(3, 4, 5)},
            r"alpha has shape \(3, 4, 5\) but image is 4 x",
        ),
        ({"image": torch.zeros(3, 4, 4), "percentile_image": 51}, "percentile_image is 51"),
        ({"image": torch.zeros(3, 4, 4), "percentile_alpha": -1}, "percentile_alpha is -1"),
        ({"image": torch.zeros(3, 4, 4), "style": "lucid"}, "'xplique', 'horama'"),
    ],
)
def test_what_is_no_picture_is_refused(arguments, message):
    with pytest.raises(ValueError, match=f"(?i){message}"):
        blend_transparency(**arguments)


def test_plot_maco_draws_on_the_axes_given(picture):
    figure, (left, right) = pyplot.subplots(1, 2)
    plot_maco(*picture, style="horama", ax=left)
    (drawn,) = left.get_images()
    np.testing.assert_array_equal(drawn.get_array(), blend_transparency(*picture, style="horama"))
    assert not left.axison
    assert not right.get_images()
    figure.canvas.draw()


def test_plot_maco_draws_on_the_current_axes(picture):
    axes = pyplot.subplot()
    plot_maco(*picture, 2.0, 60)
    (drawn,) = axes.get_images()
    np.testing.assert_array_equal(drawn.get_array(), blend_transparency(*picture, 2.0, 60))


def test_plot_maco_draws_opaque_without_a_transparency(picture):
    plot_maco(picture[0])
    (drawn,) = pyplot.gca().get_images()
    np.testing.assert_array_equal(drawn.get_array(), blend_transparency(picture[0]))
    assert (drawn.get_array()[..., 3] == 1).all()


def test_a_cell_that_ends_with_plot_maco_echoes_nothing(picture, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    shell.push({"plot_maco": plot_maco, "image": picture[0]})
    shell.run_cell("plot_maco(image)").raise_error()
    assert capsys.readouterr().out == ""
    shell.run_cell("image.shape").raise_error()
    assert "torch.Size([3, 20, 24])" in capsys.readouterr().out


def test_plot_grid_draws_all_with_titles(picture):
    image, alpha = picture
    images = torch.stack([image, image.flip(2), image.flip(1)])
    figure = plot_grid(images, alpha.expand(3, -1, -1, -1), ["a", "b", "c"], columns=2)
    figure.canvas.draw()
    assert [ax.get_title() for ax in figure.axes] == ["a", "b", "c"]
    rows = {round(ax.get_position().y0, 2) for ax in figure.axes}
    assert len(rows) == 2
    np.testing.assert_array_equal(
        figure.axes[1].get_images()[0].get_array(), blend_transparency(images[1], alpha)
    )


def test_titles_are_drawn_whatever_they_are(picture):
    names = ["i" * 20_000, "\n" * 20_000, "$\\frac{$", "a\0\x1b\udc80", "two\nlines"]
    figure = plot_grid([picture[0]] * len(names), names=names)
    figure.canvas.draw()
    titles = [ax.get_title() for ax in figure.axes]
    expected = ["i" * 77 + "...", "\n" * 9, "$\\frac{$", r"a\x00\x1b\udc80", "two\nlines"]
    assert titles == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": []}, "at least one picture"),
        ({"images": [torch.rand(3, 4, 4)], "names": ["a", "b"]}, "names has 2 entries for 1"),
        ({"images": [torch.rand(3, 4, 4)], "alphas": []}, "alphas has 0 entries for 1"),
        ({"images": [torch.rand(3, 4, 4)], "columns": 0}, "columns is 0"),
    ],
)
def test_plot_grid_refuses_lists_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        plot_grid(**arguments)


class Notebook:
    """What IPython and the inline back end do with a cell: the order of their calls, no more."""

    def __init__(self):
        self.shown = []

    def display(self, value):
        """IPython's display(), which also shows the value of a cell's last line."""
        try:
            value._ipython_display_()
        except (AttributeError, NotImplementedError):
            self.shown.append(value)

    def end_of_cell(self):
        """matplotlib_inline.backend_inline.show(close=True)"""
        for number in pyplot.get_fignums():
            self.display(pyplot.figure(number))
        pyplot.close("all")


@pytest.mark.parametrize("use", ["as the value", "assigned", "displayed and as the value later"])
def test_a_notebook_shows_a_grid_once(picture, use, monkeypatch):
    monkeypatch.setattr(matplotlib, "get_backend", lambda: "module://matplotlib_inline.backend")
    notebook = Notebook()
    figure = plot_grid([picture[0]])
    if use != "assigned":
        notebook.display(figure)
    notebook.end_of_cell()
    assert notebook.shown == [figure]
    if use.endswith("later"):
        notebook.display(figure)
        notebook.end_of_cell()
        assert notebook.shown == [figure, figure]


def test_elsewhere_a_grid_stays_with_pyplot(picture):
    figure = plot_grid([picture[0]])
    Notebook().display(figure)
    assert pyplot.gcf() is figure


@pytest.mark.parametrize("channels", [1, 2, 4, 24])
@pytest.mark.parametrize("style", ["xplique", "horama"])
def test_the_transparency_may_have_any_channels(picture, channels, style):
    image, alpha = picture
    many = alpha.mean(0, keepdim=True) * torch.linspace(0.5, 1.5, channels)[:, None, None]
    expected = blend_transparency(image, many.mean(0), style=style)
    for form in (many, many.permute(1, 2, 0)):
        np.testing.assert_allclose(
            blend_transparency(image, form, style=style), expected, atol=1e-6
        )
    plot_maco(image, many, style=style, ax=pyplot.subplot())
    (drawn,) = pyplot.gca().get_images()
    np.testing.assert_allclose(drawn.get_array(), expected, atol=1e-6)


def results(count):
    """What `maco_batch`, `maco` and `optimize` return."""
    generator = torch.Generator().manual_seed(0)
    images, transparencies = torch.rand(2, count, 3, 6, 5, generator=generator)
    names = [f"unit {index}" for index in range(count)]
    return (
        MacoBatch(images, transparencies, names, torch.zeros(count, 2)),
        [MacoImage(*pair) for pair in zip(images, transparencies, strict=True)],
        OptimizedImages([images.flip(0), images], names),
    )


def drawn(figure):
    """The pictures of a figure, and their titles."""
    return [(np.asarray(ax.images[0].get_array()), ax.get_title()) for ax in figure.axes]


def test_results_are_drawn_as_their_parts():
    batch, single, optimized = results(3)
    titled = drawn(plot_grid(batch.images, batch.transparencies, batch.names))
    for actual, expected, has_titles in (
        (drawn(plot_grid(batch)), titled, True),
        (drawn(plot_grid(single)), titled, False),
        (drawn(plot_grid(optimized)), drawn(plot_grid(batch.images, None, batch.names)), True),
        (drawn(plot_grid(single[0])), titled[:1], False),
    ):
        assert len(actual) == len(expected)
        for (one, title), (other, wanted) in zip(actual, expected, strict=True):
            assert np.array_equal(one, other)
            assert title == (wanted if has_titles else "")
    pyplot.close("all")


def test_a_result_is_blended_and_saved_with_its_transparency(tmp_path):
    _, (single,), _ = results(1)
    expected = blend_transparency(single.image, single.transparency)
    assert np.array_equal(blend_transparency(single), expected)
    opaque = torch.ones(1, 6, 5)
    assert np.array_equal(
        blend_transparency(single, opaque), blend_transparency(single.image, opaque)
    )
    paths = save_png(tmp_path / "a.png", single), save_png(tmp_path / "b.png", *single)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_several_pictures_are_not_one():
    batch, _, optimized = results(2)
    with pytest.raises(ValueError, match=r"MacoBatch holds 2 pictures: plot_grid\(result\)"):
        plot_maco(batch)
    with pytest.raises(ValueError, match=r"OptimizedImages holds 2 pictures: .*images\[-1\]\[0\]"):
        blend_transparency(optimized)
