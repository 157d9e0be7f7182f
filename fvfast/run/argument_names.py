"""What to write instead of an argument that a function does not have."""

from collections.abc import Collection, Iterable

from fvfast.engine.network.categories import closest_names

_OTHER_NAMES = {
    "steps": "nb_steps",
    "iterations": "nb_steps",
    "epochs": "nb_steps",
    "crops": "nb_crops",
    "size": "custom_shape",
    "image_size": "custom_shape",
    "lr": "learning_rate",
    "noise": "noise_intensity",
    "spectrum": "maco_dataset",
}
"""Names of other libraries and of the command line, and what the argument is called here."""

_OF_OBJECTIVES = ("preprocess", "input_shape", "layer", "multiplier", "names")


def check_names(function: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise TypeError, with advice, if a function does not have an argument of a name.

    Parameters
    ----------
    function
        What the user called.
    given
        Names of the arguments that the user gave.
    known
        Names of the arguments that the function has.
    """
    for name in given:
        if name not in known:
            raise TypeError(
                f"{function}(): got an unexpected keyword argument {name!r}.{_advice(name, known)}"
            )


def _advice(name: str, known: Collection[str]) -> str:
    meant = _OTHER_NAMES.get(name)
    if meant in known:
        return f" It is called {meant} here."
    if name in _OF_OBJECTIVES:
        return f" It belongs to the objective: Objective.neuron(..., {name}=...)."
    if "learning_rate" in (name, meant):
        return " The optimizer has it: optimizer=lambda images: torch.optim.Adam(images, lr=0.05)."
    return closest_names(name, known)
