"""Runs: what they return, print, show and save, and how the network is run."""

# ruff: noqa: N803 (T is Lucent's name for the function that returns features)

import numpy as np
import pytest
import torch
from lucent_runs import draw, sgd, small_image
from PIL import Image
from torch import nn

from fvfast.lucent.optvis import objectives, param, render, transform
from fvfast.lucent.optvis.devices import parameter_device


class TestImages:
    def test_thresholds(self, network):
        """Images after these steps, in order, each once; a run is the beginning of a longer one."""
        torch.manual_seed(0)
        images = draw(network, "0:1", thresholds=[5, 1, 3, 1])
        assert [one.shape for one in images] == [(1, 12, 12, 3)] * 3
        assert all(one.dtype == np.float32 for one in images)
        for steps, expected in zip((1, 3, 5), images, strict=True):
            torch.manual_seed(0)
            (again,) = draw(network, "0:1", thresholds=(steps,))
            np.testing.assert_array_equal(again, expected)

    def test_a_seed_decides_the_picture(self, network):
        def drawn(seed):
            torch.manual_seed(seed)
            return draw(network, "0:1", transforms=None, param_f=lambda: param.image(40))[0]

        np.testing.assert_array_equal(drawn(1), drawn(1))
        assert np.abs(drawn(1) - drawn(2)).max() > 0.01

    def test_what_is_drawn_goes_on_from_the_programs_generator(self, network):
        """Two calls differ, as they do in Lucent."""
        torch.manual_seed(0)
        first, second = (draw(network, "0:1")[0] for _ in range(2))
        assert np.abs(first - second).max() > 1e-3

    @pytest.mark.parametrize("objective", ["3:1", lambda T: -T("3").mean() + T("input").mean()])
    def test_parameters_are_where_the_network_is(self, network, objective):
        """Whatever torch's default device is; this one can hold no numbers."""
        made = []

        def param_f():
            made.append(param.image(30))
            return made[-1]

        with torch.device("meta"):
            images = draw(network, objective, param_f, transforms=None)
            assert parameter_device().type == "meta"
        assert made[0][0][0].device.type == "cpu"
        assert np.isfinite(images[0]).all()

    def test_objectives_that_draw(self, network):
        """From the program's generator; the first look at them takes nothing from it."""
        drawn = []

        def noisy(T):
            drawn.append(torch.rand(()).item())
            return drawn[-1] * T("3").mean()

        torch.manual_seed(0)
        param.image(12)
        expected = [torch.rand(()).item() for _ in range(3)]
        torch.manual_seed(0)
        draw(network, noisy, thresholds=(3,))
        assert drawn[1:] == expected

    def test_numpy_and_python_are_not_drawn_from(self, network):
        before = np.random.get_state()[1].copy()
        draw(network, "0:1", transforms=None)
        np.testing.assert_array_equal(np.random.get_state()[1], before)

    @pytest.mark.parametrize(("size", "fixed", "seen"), [
        ((12,), None, (224, 224)), ((12,), 30, (30, 30)), ((12,), (20, 26), (20, 26)),
        ((230,), None, (230, 230)), ((230, 100), None, (224, 224)), ((240, 230), None, (230, 240)),
        ((230,), 50, (50, 50)),
    ])  # fmt: skip
    def test_sizes_that_the_network_sees(self, network, size, fixed, seen):
        sizes = set()
        network[0].register_forward_pre_hook(lambda _m, inputs: sizes.add(inputs[0].shape[2:]))
        draw(network, "0:1", lambda: param.image(*size), fixed_image_size=fixed, thresholds=(1,))
        assert sizes == {seen}

    def test_views_of_several_sizes(self, network):
        """Large images are not brought to one size after the transformations."""
        sizes = set()
        network[0].register_forward_pre_hook(lambda _m, inputs: sizes.add(inputs[0].shape[2]))
        scale = [transform.random_scale([1.0, 1.1, 1.2])]
        torch.manual_seed(0)
        images = draw(
            network, "4:1", lambda: param.image(224), transforms=scale, fixed_image_size=None,
            thresholds=(8,),
        )  # fmt: skip
        assert sizes == {224, 247, 269}
        assert np.isfinite(images[0]).all()

    def test_preprocessing(self, network):
        """ImageNet's normalization by default; Lucid's for its network, known by its name."""
        seen = []

        class InceptionV1(nn.Sequential):
            pass

        def first_view(model, **settings):
            handle = model[0].register_forward_pre_hook(
                lambda _m, inputs: seen.append(inputs[0].clone())
            )
            values = torch.full((1, 3, 20, 20), 0.25).requires_grad_()
            draw(model, "0:1", lambda: ([values], lambda: values), **settings)
            handle.remove()
            view, seen[:] = seen[0][0, :, 0, 0], []
            return view

        expected = torch.tensor(
            [(0.25 - 0.485) / 0.229, (0.25 - 0.456) / 0.224, (0.25 - 0.406) / 0.225]
        )
        torch.testing.assert_close(first_view(network), expected)
        torch.testing.assert_close(first_view(network, preprocess=False), torch.full((3,), 0.25))
        lucids = InceptionV1(*network).eval()
        torch.testing.assert_close(first_view(lucids), torch.full((3,), 0.25 * 255 - 117))

    def test_optimizers(self, network):
        """A class, a function, and one that calls the closure several times in a step."""
        losses = []

        def watched(T):
            losses.append(-T("4")[:, 1].mean())
            return losses[-1]

        for optimizer in (
            lambda params: torch.optim.LBFGS(params, max_iter=4, line_search_fn="strong_wolfe"),
            lambda params: torch.optim.RMSprop(params, lr=0.01),
            torch.optim.AdamW,
        ):
            losses.clear()
            draw(network, watched, optimizer=optimizer, thresholds=(3,))
            assert losses[-1].item() < losses[0].item()

    def test_numbers_that_are_not_finite(self, network):
        with pytest.warns(RuntimeWarning, match="after step 2 have values that are not finite"):
            draw(network, lambda T: T("0").mean() * float("nan"))


class TestTheNetworkIsRun:
    def test_by_the_engine_as_it_is(self, network):
        """The loss and the gradient are those of the network, up to the rounding of folded ones."""
        objective = objectives.channel("4", 3) - objectives.neuron("0", 2)
        values = torch.randn(2, 3, 20, 20)
        drawn = values.clone().requires_grad_()
        draw(network, objective, lambda: ([drawn], lambda: drawn), optimizer=sgd, thresholds=(1,))
        images = values.clone().requires_grad_()
        with render.hook_model(network, lambda: images) as features:
            network(transform.normalize()(images))
            objective(features).backward()
        scale = images.grad.abs().max()
        torch.testing.assert_close(drawn, values - images.grad, rtol=0, atol=float(1e-5 * scale))

    def test_up_to_the_last_layer_that_is_read(self, network):
        calls = []
        network[5].register_forward_hook(lambda *_: calls.append(1))
        draw(network, "3:1", thresholds=(4,))
        assert len(calls) == 1  # the first look

    def test_once_for_each_step(self, network):
        calls = []
        network[0].register_forward_hook(lambda *_: calls.append(1))
        draw(network, lambda T: -T("3").mean(), thresholds=(2,))
        few = len(calls)
        calls.clear()
        draw(network, lambda T: -T("3").mean(), thresholds=(12,))
        assert len(calls) == few + 10

    def test_layers_before_operations_in_place(self):
        """Their output is what they put out: Lucent reads what the next layer has made of it."""
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 1)).eval()
        lowest = []

        def watched(T):
            lowest.append(T("0").min().item())
            return T("0").mean() + T("2").mean()

        draw(model, watched)
        assert max(lowest) < 0
        with render.hook_model(model, small_image) as features:
            model(torch.randn(1, 3, 8, 8))
            assert features("0").min() < 0 <= features("1").min()

    @pytest.mark.parametrize("objective", ["1:2", lambda T: -T("1")[:, 2].mean()])
    def test_networks_that_write_to_their_images(self, objective):
        """What is optimized goes to the network itself here, without anything between."""

        class Halved(nn.Module):
            def forward(self, x):
                return x.mul_(0.5)

        torch.manual_seed(0)
        model = nn.Sequential(Halved(), nn.Conv2d(3, 4, 3)).eval()
        start = torch.rand(1, 3, 20, 20)
        values = start.clone().requires_grad_()
        draw(
            model, objective, lambda: ([values], lambda: values), preprocess=False, optimizer=sgd,
            thresholds=(1,),
        )  # fmt: skip
        weight = model[1].weight[2].detach()
        expected = start.clone()
        for row in range(3):
            for column in range(3):
                inner = expected[:, :, row : row + 18, column : column + 18]
                inner += 0.5 / (18 * 18) * weight[:, row, column][None, :, None, None]
        torch.testing.assert_close(values.detach(), expected)

    def test_layers_with_several_outputs(self):
        """Which the engine does not read: hooks do."""

        class Two(nn.Module):
            def forward(self, x):
                return x.sin(), {"half": x / 2}

        class Network(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.two, self.last = nn.Conv2d(3, 4, 3), Two(), nn.Conv2d(4, 2, 1)

            def forward(self, x):
                sine, others = self.two(self.conv(x))
                return self.last(sine + others["half"])

        torch.manual_seed(0)
        losses = []

        def watched(T):
            losses.append(T("two")[1]["half"].mean() - T("two")[0].std() + T("last")[:, 0].mean())
            return losses[-1]

        draw(Network().eval(), watched, thresholds=(6,))
        assert losses[-1].item() < losses[0].item()

    def test_objectives_that_turn_to_another_layer(self, network):
        read = []

        def fickle(T):
            read.append("0" if len(read) < 3 else "3")
            return -T(read[-1])[:, 1].mean()

        before = network[3].weight.clone()
        images = draw(network, fickle, thresholds=(1, 2, 5))
        assert len(images) == 3
        assert "3" in read
        assert np.abs(images[2] - images[1]).max() > 1e-3
        assert torch.equal(network[3].weight, before)

    def test_the_input_and_the_labels(self, network):
        shapes = {}

        def watched(T):
            shapes.update({name: tuple(T(name).shape) for name in ("input", "labels", "7")})
            return (T("input") - 0.9).abs().mean() - 0 * T("labels").mean()

        images = draw(
            network, watched, lambda: param.image(12, batch=2, fft=False), thresholds=(1, 60)
        )
        assert shapes == {"input": (2, 3, 12, 12), "labels": (2, 10), "7": (2, 10)}
        assert np.abs(images[1] - 0.9).mean() < 0.5 * np.abs(images[0] - 0.9).mean()

    @pytest.mark.parametrize("name", ["0.0.1", "0_0_1"])
    def test_names_with_dots_and_underscores(self, name):
        torch.manual_seed(0)
        inner = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 4, 3))
        model = nn.Sequential(nn.Sequential(inner), nn.ReLU()).eval()
        assert draw(model, f"{name}:3")[0].shape == (1, 12, 12, 3)

    def test_wrapped_networks(self, network):
        wrapped = nn.DataParallel(network)
        torch.manual_seed(0)
        first = draw(wrapped, "module_3:1")
        torch.manual_seed(0)
        second = draw(network, "3:1")
        np.testing.assert_array_equal(first, second)

    def test_modules_that_are_called_twice(self):
        """The last call counts."""

        class Twice(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.conv = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

            def forward(self, x):
                return self.conv(self.conv(self.first(x)))

        torch.manual_seed(0)
        shapes = set()

        def watched(T):
            shapes.add(tuple(T("conv").shape[2:]))
            return -T("conv")[:, 0].mean()

        draw(Twice().eval(), watched)
        assert shapes == {(14, 14)}


class TestOutput:
    def test_verbose(self, network, capsys):
        draw(network, lambda T: T("0").mean() * 0 + T("input").mean(), verbose=True,
             thresholds=(1, 3))  # fmt: skip
        lines = capsys.readouterr().out.splitlines()
        assert [line.rpartition(" ")[0] for line in lines] == [
            "Initial loss:", "Loss at step 1:", "Loss at step 3:",
        ]  # fmt: skip
        losses = [float(line.rpartition(" ")[2]) for line in lines]
        assert losses == sorted(losses, reverse=True)
        assert losses[0] == pytest.approx(0.5, abs=0.1)

    def test_silent(self, network, capsys):
        draw(network, "0:1")
        assert capsys.readouterr() == ("", "")

    def test_progress(self, network, capsys):
        draw(network, "0:1", thresholds=(7,), progress=True)
        assert "7/7" in capsys.readouterr().err

    @pytest.mark.parametrize(("name", "channels"), [("a.png", 3), ("b.png", 1), ("c.jpg", 3)])
    def test_save(self, network, tmp_path, name, channels):
        model = network if channels == 3 else nn.Sequential(nn.Conv2d(1, 2, 3)).eval()
        images = draw(
            model, "0:1", lambda: param.image(12, 10, batch=2, channels=channels),
            save_image=True, image_name=str(tmp_path / name), preprocess=channels == 3,
        )[0]  # fmt: skip
        with Image.open(tmp_path / name) as file:
            saved = np.asarray(file)
        expected = (np.concatenate(images, axis=1) * 255).astype(np.uint8)
        assert saved.shape[:2] == (10, 24)
        if name != "c.jpg":
            np.testing.assert_array_equal(saved.reshape(expected.shape), expected)

    def test_save_under_the_default_name(self, network, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        draw(network, "0:1", save_image=True)
        assert [path.name for path in tmp_path.iterdir()] == ["image.jpg"]

    @pytest.mark.parametrize("display", [":0", None])
    def test_viewer(self, network, monkeypatch, display):
        """Opened where there is a display, and only there."""
        shown = []
        monkeypatch.setattr("PIL.Image.Image.show", lambda self: shown.append(self.size))
        monkeypatch.setattr("sys.platform", "linux")
        for name in ("DISPLAY", "WAYLAND_DISPLAY"):
            monkeypatch.delenv(name, raising=False)
        if display is not None:
            monkeypatch.setenv("WAYLAND_DISPLAY", display)
        draw(network, "0:1", lambda: param.image(12, batch=2), show_image=True)
        render.view(torch.rand(1, 3, 5, 6))
        assert shown == ([(24, 12), (6, 5)] if display else [])

    def test_inline(self, network, monkeypatch):
        shown = []
        monkeypatch.setattr("IPython.display.display", lambda picture: shown.append(picture.size))
        monkeypatch.setenv("DISPLAY", ":0")
        draw(network, "0:1", show_inline=True, show_image=True)
        assert shown == [(12, 12)]
        draw(network, "0:1", show_inline=True, verbose=True, thresholds=(1, 2))
        assert shown == [(12, 12)] * 4

    def test_arrays(self):
        images = torch.rand(2, 3, 4, 5, requires_grad=True)
        array = render.tensor_to_img_array(images)
        assert array.shape == (2, 4, 5, 3)
        assert array[1, 2, 3, 0] == images[1, 0, 2, 3].item()
