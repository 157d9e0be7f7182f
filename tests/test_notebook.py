"""The notebook for beginners: its cells run, and the outputs in the file are those of its cells.

After a change of a cell: ``jupyter execute --inplace examples/first_pictures.ipynb``.
"""

import base64
import io
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "examples" / "first_pictures.ipynb"
LARGEST_FILE = 1_500_000
IN_HTML = r'src="data:image/png;base64,([^"]+)"'


@pytest.fixture
def stored():
    return nbformat.read(FILE, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(cell):
    """Sizes of the pictures that a cell shows, each decoded."""
    data = [output["data"] for output in cell.outputs if "data" in output]
    files = [entry["image/png"] for entry in data if "image/png" in entry]
    files += [file for entry in data for file in re.findall(IN_HTML, entry.get("text/html", ""))]
    sizes = []
    for file in files:
        with Image.open(io.BytesIO(base64.b64decode(file))) as picture:
            picture.load()
            sizes.append(picture.size)
    return sizes


def printed(cell, stream):
    texts = [output.text for output in cell.outputs if output.output_type == "stream"
             and output.name == stream]  # fmt: skip
    return "".join(texts)


def test_outputs_are_stored(stored):
    """Of one run from top to bottom, so small that the file can be read as a page."""
    nbformat.validate(stored)
    cells = code_cells(stored)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(output.output_type != "error" for cell in cells for output in cell.outputs)
    sizes = [size for cell in cells for size in pictures(cell)]
    assert len(sizes) >= 12
    assert max(max(size) for size in sizes) <= 800
    assert FILE.stat().st_size <= LARGEST_FILE


def check_warnings(notebook):
    """Only the cells that interrupt themselves warn, and only of that."""
    for cell in code_cells(notebook):
        lines = [line for line in printed(cell, "stderr").splitlines() if "Warning" in line]
        assert all("interrupted after" in line for line in lines)
        assert bool(lines) == ("SIGINT" in cell.source)


def test_only_the_interrupts_warn(stored):
    check_warnings(stored)


def run_in(folder, file, monkeypatch):
    """Run the cells of a notebook in an empty folder, and return it with their outputs."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path.rstrip(os.pathsep))
    monkeypatch.setenv("IPYTHONDIR", str(folder.parent / "ipython"))
    fresh = nbformat.read(file, as_version=4)
    for cell in code_cells(fresh):
        cell.outputs = []
    folder.mkdir()
    client = NotebookClient(fresh, timeout=600, resources={"metadata": {"path": str(folder)}})
    client.execute()  # raises the error of a cell
    return fresh


@pytest.mark.thorough
def test_cells_run_and_show_what_is_stored(stored, tmp_path, monkeypatch):
    folder = tmp_path / "empty"
    fresh = run_in(folder, FILE, monkeypatch)
    for cell, before in zip(code_cells(fresh), code_cells(stored), strict=True):
        assert pictures(cell) == pictures(before), cell.source
        assert bool(printed(cell, "stdout")) == bool(printed(before, "stdout")), cell.source
    check_warnings(fresh)
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.png"))
    assert names == ["pictures/examples.png", "pictures/macaw.png"]
