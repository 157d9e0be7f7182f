"""The notebook of atlases: its cells run, and the outputs in the file are those of its cells.

After a change of a cell: ``jupyter execute --inplace examples/atlas.ipynb``, in an empty folder.
"""

import re

import nbformat
import pytest
from test_notebook import LARGEST_FILE, ROOT, code_cells, pictures, printed, run_in

FILE = ROOT / "examples" / "atlas.ipynb"


def words(text):
    return re.findall(r"[A-Za-z_/]+", text)


@pytest.fixture
def stored():
    return nbformat.read(FILE, as_version=4)


def test_outputs_are_stored(stored):
    nbformat.validate(stored)
    cells = code_cells(stored)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(output.output_type != "error" for cell in cells for output in cell.outputs)
    assert not any(printed(cell, "stderr") for cell in cells)
    assert sum(len(pictures(cell)) for cell in cells) >= 2
    assert FILE.stat().st_size <= LARGEST_FILE


@pytest.mark.thorough
def test_cells_run_and_show_what_is_stored(stored, tmp_path, monkeypatch):
    folder = tmp_path / "empty"
    fresh = run_in(folder, FILE, monkeypatch)
    for cell, before in zip(code_cells(fresh), code_cells(stored), strict=True):
        assert pictures(cell) == pictures(before), cell.source
        # Of the same photographs; a processor may round the last digit in another way.
        assert words(printed(cell, "stdout")) == words(printed(before, "stdout")), cell.source
    assert len(list(folder.glob("atlas/units/*/*.json"))) == 7
    assert (folder / "pages" / "index.html").exists()
