"""Names of layers as Lucent writes them, joined by underscores, and as torch does, by dots."""

import difflib

from torch import nn

from fvfast.engine.borrowing.state import unwrap


class LayerNames:
    """The modules of a network by any of their names.

    Parameters
    ----------
    model
        The network. In a wrapper such as `torch.nn.DataParallel`, the layers have the names that
        they have in the wrapper, too.
    """

    def __init__(self, model: nn.Module) -> None:
        network = unwrap(model)
        self._type = type(network).__name__
        self._dotted: dict[str, nn.Module] = {}
        self._joined: dict[str, dict[str, nn.Module]] = {}
        for root in dict.fromkeys((network, model)):
            for name, module in root.named_modules(remove_duplicate=False):
                if name:
                    self._dotted.setdefault(name, module)
                    self._joined.setdefault(joined(name), {}).setdefault(name, module)
        # In the order of registration: Lucent calls the output of the last module the labels.
        self.modules = {name: module for name, module in network.named_modules() if name}

    def find(self, name: str) -> nn.Module:
        """Return the module of a name such as "layer4_2" or "layer4.2".

        Raises
        ------
        TypeError
            The name is no text.
        ValueError
            There is no such layer, or the name is that of two.
        """
        if not isinstance(name, str):
            raise TypeError(
                f"a layer is named by a text such as 'layer4_2' or 'layer4.2', got {name!r}."
            )
        if name in self._dotted:
            return self._dotted[name]
        found = self._joined.get(name, {})
        if len({id(module) for module in found.values()}) > 1:
            raise ValueError(
                f"layer {name!r} is the name of several layers: say which, with dots: "
                f"{' or '.join(map(repr, found))}."
            )
        if found:
            return next(iter(found.values()))
        raise ValueError(
            f"the model ({self._type}) has no layer {name!r}. {self._suggestions(name)}"
        )

    def last(self) -> nn.Module:
        """Return the module that was registered last, whose output Lucent calls the labels.

        Raises
        ------
        ValueError
            The network has no modules in it.
        """
        if not self.modules:
            raise ValueError(
                f"the model ({self._type}) has no layers: put it into a torch.nn.Sequential to "
                "read its output as layer '0'."
            )
        return next(reversed(self.modules.values()))

    def _suggestions(self, name: str) -> str:
        names = list(self._joined)
        wanted = joined(name)
        # Users often know only the last part of a name ("conv2" for "layer1_0_conv2").
        tails = [one for one in names if one.endswith(f"_{wanted}")]
        close = tails[:5] + difflib.get_close_matches(wanted, names, n=5, cutoff=0.4)
        if close:
            return f"Closest names: {', '.join(dict.fromkeys(close))}."
        more = ", ..." if len(names) > 8 else ""
        return (
            f"Its layers are {', '.join(names[:8])}{more}; "
            "fvfast.lucent.modelzoo.util.get_model_layers(model) lists them all."
        )


def joined(name: str) -> str:
    """Write a dotted name as Lucent does."""
    return name.replace(".", "_")
