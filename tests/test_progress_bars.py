"""The bar that tqdm chooses, where it finds itself in a notebook."""

import subprocess
import sys

# In a kernel, to tqdm's eyes, where ipywidgets is not installed.
NOTEBOOK = """
import sys
import ipykernel.zmqshell

sys.modules["ipywidgets"] = None
"""


def run(program):
    command = [sys.executable, "-c", NOTEBOOK + program]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stderr


def test_a_notebook_without_widgets_is_not_warned():
    bar = "list(tqdm([1], desc='bar of text'))"
    assert "TqdmWarning: IProgress not found" in run(f"from tqdm.auto import tqdm; {bar}")
    shown = run(f"from fvfast._shared.progress_bars import tqdm; {bar}")
    assert "Warning" not in shown
    assert "bar of text: 100%" in shown
