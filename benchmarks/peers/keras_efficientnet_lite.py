"""EfficientNet-Lite in Keras, with weights that `benchmarks.quality_artists` has written."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

Weights = Mapping[str, NDArray[Any]]


def build(weights: Weights, size: int) -> keras.Model:
    """Build the network, which takes images (N, size, size, 3) and returns logits (N, classes).

    Parameters
    ----------
    weights
        By the names of efficientnet_lite_pytorch, and "strides" of the blocks.
    size
        Height and width of the images.
    """
    images = keras.Input((size, size, 3))
    features = _normalized(images, weights, "_conv_stem", "_bn0", strides=2)
    for number, stride in enumerate(weights["strides"]):
        features = _block(features, weights, f"_blocks.{number}.", int(stride))
    features = _normalized(features, weights, "_conv_head", "_bn1")
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    kernel, bias = weights["_fc.weight"].T, weights["_fc.bias"]
    logits = keras.layers.Dense(len(bias))
    outputs = logits(pooled)
    logits.set_weights([kernel, bias])
    return keras.Model(images, outputs)


def _block(inputs: Any, weights: Weights, prefix: str, stride: int) -> Any:
    features = inputs
    if f"{prefix}_expand_conv.weight" in weights:
        features = _normalized(features, weights, f"{prefix}_expand_conv", f"{prefix}_bn0")
    features = _normalized(
        features, weights, f"{prefix}_depthwise_conv", f"{prefix}_bn1", strides=stride
    )
    features = _normalized(
        features, weights, f"{prefix}_project_conv", f"{prefix}_bn2", activates=False
    )
    if stride == 1 and features.shape[-1] == inputs.shape[-1]:
        features = keras.layers.Add()([features, inputs])
    return features


def _normalized(
    features: Any,
    weights: Weights,
    convolution: str,
    normalization: str,
    *,
    strides: int = 1,
    activates: bool = True,
) -> Any:
    """Apply a convolution, its batch normalization and, where it has one, ReLU6."""
    kernel = weights[f"{convolution}.weight"]  # (out, in / groups, height, width)
    common = {"strides": strides, "padding": "same", "use_bias": False}
    if kernel.shape[1] == 1 and len(kernel) == features.shape[-1]:
        layer = keras.layers.DepthwiseConv2D(kernel.shape[2:], **common)
        kernel = kernel.transpose(2, 3, 0, 1)
    else:
        layer = keras.layers.Conv2D(len(kernel), kernel.shape[2:], **common)
        kernel = kernel.transpose(2, 3, 1, 0)
    features = layer(features)
    layer.set_weights([np.ascontiguousarray(kernel)])
    batch = keras.layers.BatchNormalization(epsilon=1e-3)
    features = batch(features)
    names = ("weight", "bias", "running_mean", "running_var")
    batch.set_weights([weights[f"{normalization}.{name}"] for name in names])
    return keras.layers.ReLU(6.0)(features) if activates else features
