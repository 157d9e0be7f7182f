"""Names of a network's layers."""

from collections import OrderedDict

from torch import nn

from fvfast.lucent.layer_names import joined


def get_model_layers(
    model: nn.Module,
    getLayerRepr: bool = False,  # noqa: N803 (Lucent's name)
) -> list[str] | OrderedDict[str, str]:
    """List the names of all layers, as objectives take them.

    Parameters
    ----------
    model
        The network.
    getLayerRepr
        Return what each layer prints as well.

    Returns
    -------
    layers
        Names such as "layer4_2_conv3", or a dictionary from names to representations.

    Raises
    ------
    TypeError
        ``model`` is not a module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}.")
    modules = [
        (joined(name), module)
        for name, module in model.named_modules(remove_duplicate=False)
        if name
    ]
    if getLayerRepr:
        return OrderedDict((name, repr(module)) for name, module in modules)
    return [name for name, _ in modules]
