"""Calls functions in a process of its own, in which the reference does the work of all kernels."""

import concurrent.futures
import multiprocessing
import os

from fvfast.ops._kernels import native_status


def call_without_native(function, *arguments):
    """Return what a function of a test module returns where the native module is switched off."""
    # A new process, not a fork: the module is loaded in this one.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context, _switch_native_off) as pool:
        assert "FVFAST_DISABLE_NATIVE" in pool.submit(_reason).result()
        return pool.submit(function, *arguments).result()


def _switch_native_off():
    os.environ["FVFAST_DISABLE_NATIVE"] = "1"


def _reason():
    return native_status().reason
