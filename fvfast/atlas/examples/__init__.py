"""Dataset examples: for each unit of a network, the photographs that excite it most."""

from fvfast.atlas.examples.collect import dataset_examples, write_examples
from fvfast.atlas.examples.example_set import ExampleSet
from fvfast.atlas.examples.unit_examples import Example, UnitExamples
from fvfast.atlas.examples.units import Units

__all__ = [
    "Example",
    "ExampleSet",
    "UnitExamples",
    "Units",
    "dataset_examples",
    "write_examples",
]
