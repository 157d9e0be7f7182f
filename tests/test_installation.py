"""What `fvfast info` says about the machine."""

import os

import pytest

from fvfast.cli import installation
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
    monkeypatch.setattr(installation, "busy_cores", lambda: 100.0)
    monkeypatch.setattr(installation.torch, "get_num_threads", lambda: 4)
    assert "PASSIVE" in dict(describe_installation())["waiting threads"]
    monkeypatch.setattr(installation, "busy_cores", lambda: 0.0)
    monkeypatch.setattr(installation, "usable_cores", lambda: 8)
    assert "waiting threads" not in dict(describe_installation())


def test_the_machine_is_read():
    assert 1 <= usable_cores() <= os.cpu_count()
    assert busy_cores() is None or busy_cores() >= 0
