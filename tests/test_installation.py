"""What `fvfast info` says about the machine."""

import os

import pytest
import torch

from fvfast.cli.installation import busy_cores, describe_installation, usable_cores, waiting_advice


@pytest.fixture(autouse=True)
def no_policy(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)


@pytest.mark.parametrize(
    ("threads", "cores", "busy"),
    [(2, 2, 0.0), (2, 2, 0.4), (1, 2, 9.0), (4, 16, 12.0), (2, 2, None)],
)
def test_no_advice_with_free_cores(threads, cores, busy):
    assert waiting_advice(threads, cores, busy) == ""


@pytest.mark.parametrize(("threads", "cores", "busy"), [(2, 2, 1.0), (2, 2, 2.0), (8, 8, 3.0)])
def test_advice_where_threads_exceed_free_cores(monkeypatch, threads, cores, busy):
    advice = waiting_advice(threads, cores, busy)
    assert f"{threads} threads on {cores} cores with a load of {busy}" in advice
    assert "OMP_WAIT_POLICY=PASSIVE" in advice
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert waiting_advice(threads, cores, busy) == ""


def test_info_says_it(monkeypatch):
    """On a machine of eight cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    for busy, is_said in ((100.0, True), (0.0, False)):
        monkeypatch.setattr(os, "getloadavg", lambda busy=busy: (busy, 0.0, 0.0), raising=False)
        rows = dict(describe_installation())
        assert ("PASSIVE" in rows.get("waiting threads", "")) is is_said


def test_the_machine_is_read():
    assert 1 <= usable_cores() <= os.cpu_count()
    assert busy_cores() is None or busy_cores() >= 0
