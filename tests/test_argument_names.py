"""Arguments that a function does not have: the message says which one is meant."""

import pytest

from fvfast import Objective, maco, maco_batch, optimize


@pytest.fixture
def objective(network):
    return Objective.neuron(network, "7", 3, input_shape=(3, 20, 20))


@pytest.mark.parametrize("function", [maco, maco_batch, optimize])
@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("steps", r"It is called nb_steps here\."),
        ("size", r"It is called custom_shape here\."),
        (
            "preprocess",
            r"It belongs to the objective: Objective\.neuron\(\.\.\., preprocess=\.\.\.\)",
        ),
        (
            "input_shape",
            r"It belongs to the objective: Objective\.neuron\(\.\.\., input_shape=\.\.\.\)",
        ),
        ("value_range", r"Closest names: values_range"),
    ],
)
def test_what_is_meant_is_said(objective, function, name, advice):
    start = rf"^{function.__name__}\(\): got an unexpected keyword argument '{name}'\. {advice}"
    with pytest.raises(TypeError, match=start):
        function(objective, **{name: 8})


@pytest.mark.parametrize("function", [maco, maco_batch])
@pytest.mark.parametrize(
    ("name", "meant"),
    [("crops", "nb_crops"), ("lr", "learning_rate"), ("noise", "noise_intensity"),
     ("spectrum", "maco_dataset")],
)  # fmt: skip
def test_the_name_of_an_argument_of_maco(objective, function, name, meant):
    with pytest.raises(TypeError, match=f"It is called {meant} here"):
        function(objective, **{name: 8})


@pytest.mark.parametrize("name", ["lr", "learning_rate"])
def test_the_learning_rate_of_optimize_is_its_optimizers(objective, name):
    with pytest.raises(TypeError, match=rf"'{name}'\. The optimizer has it: .*Adam\(images, lr="):
        optimize(objective, **{name: 0.1})


@pytest.mark.parametrize("name", ["crops", "zzzzzz"])
def test_no_argument_is_named_that_the_function_does_not_have(objective, name):
    with pytest.raises(TypeError, match=f"argument '{name}'") as raised:
        optimize(objective, **{name: 8})
    assert "nb_crops" not in str(raised.value)


def test_other_mistakes_in_arguments_are_told_as_before(objective):
    with pytest.raises(TypeError, match=r"^maco\(\): missing a required argument: 'objective'$"):
        maco()
    with pytest.raises(TypeError, match=r"^maco\(\): multiple values for argument 'objective'$"):
        maco(objective, objective=objective)
