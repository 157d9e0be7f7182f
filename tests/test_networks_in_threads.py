"""Threads that use, or draw with, one network at the same time."""

import threading

import pytest
import torch
from misbehaving import INPUT, SHORT, Network
from selection import thorough

import fvfast.engine
from fvfast import Objective, maco

pytestmark = pytest.mark.usefixtures("nothing_kept")


@pytest.mark.parametrize("precision", [None, thorough("bfloat16"), "float16"])
def test_other_threads_use_the_network_meanwhile(precision):
    model = Network()
    images = torch.randn(2, *INPUT)
    with torch.no_grad():
        expected = model(images)
    stop, results, failures = threading.Event(), [], []

    def serve():
        while not stop.is_set():
            try:
                with torch.no_grad():
                    results.append(torch.equal(model(images), expected))
                    results.append(model.conv.weight.dtype == torch.float32)
                    results.append(all(p.dtype == torch.float32 for p in model.parameters()))
            except BaseException as error:  # noqa: BLE001 (whatever it is, it is a fault)
                failures.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        for unit in range(3):
            objective = Objective.neuron(model, "fc", unit, input_shape=INPUT)
            maco(objective, **{**SHORT, "nb_steps": 12}, precision=precision)
            fvfast.engine.clear()
    finally:
        stop.set()
        thread.join()
    assert not failures
    assert len(results) > 30
    assert all(results)


def test_two_threads_draw_with_one_network():
    model = Network()
    expected = [draw_unit(model, unit) for unit in range(4)]
    found = [None] * 4

    def work(unit):
        found[unit] = draw_unit(model, unit)

    threads = [threading.Thread(target=work, args=(unit,)) for unit in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine, its in zip(found, expected, strict=True):
        assert torch.equal(mine, its)


def draw_unit(model, unit):
    return maco(Objective.neuron(model, "fc", unit, input_shape=INPUT), **SHORT)[0]
