"""Finds native functions that are given memory which nobody keeps any more.

A native function gets an address, which keeps nothing alive. Memory that was given back may still
hold what it held, so that results are right by luck.
"""

import gc

import torch

LEAST_ADDRESS = 2**32  # pairs of smaller integers are sizes


class LivingMemory:
    """Stands in for a native module, and refuses addresses in memory that no tensor has.

    Parameters
    ----------
    module
        What it stands in for.

    Attributes
    ----------
    checked
        How many addresses its functions were given.
    """

    def __init__(self, module):
        self._module = module
        self.checked = 0

    def __getattr__(self, name):
        found = getattr(self._module, name)
        if not callable(found):
            return found

        def call(**arguments):
            kept = ranges_of_tensors()
            for argument, value in arguments.items():
                for address in addresses_in(value):
                    self.checked += 1
                    lives = any(first <= address < last for first, last in kept)
                    assert lives, f"{name}: the memory of {argument} has been given back"
            return found(**arguments)

        return call


def ranges_of_tensors():
    """Where the memory of all tensors begins and ends."""
    ranges = set()
    for found in gc.get_objects():
        if type(found) in (torch.Tensor, torch.nn.Parameter) and found.layout is torch.strided:
            storage = found.untyped_storage()
            ranges.add((storage.data_ptr(), storage.data_ptr() + storage.nbytes()))
    return ranges


def addresses_in(value):
    """The addresses among the arguments of a native function, as `buffer` makes them."""
    if not isinstance(value, (tuple, list)):
        return
    if len(value) == 2 and all(type(one) is int for one in value) and value[0] >= LEAST_ADDRESS:
        yield value[0]
        return
    for one in value:
        yield from addresses_in(one)
