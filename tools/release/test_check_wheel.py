"""Wheels that must not be given to others are refused."""

import sys
import zipfile
from pathlib import Path

import pytest
from release.check_wheel import check_tag, contents, draw

ROOT = Path(__file__).resolve().parents[2]
FILES = ("fvfast/__init__.py", "fvfast/py.typed", "fvfast/_C.cpython-311-x86_64-linux-gnu.so")
RECORDS = ("fvfast-0.1.0.dist-info/METADATA", "fvfast-0.1.0.dist-info/RECORD")


def wheel(folder, *names, platform="manylinux_2_28_x86_64"):
    """A wheel of empty files."""
    path = folder / f"fvfast-0.1.0-cp311-cp311-{platform}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in (*names, *RECORDS):
            archive.writestr(name, "")
    return path


def test_a_good_wheel_passes(tmp_path):
    good = wheel(tmp_path, *FILES)
    check_tag(good)
    assert contents(good) == [*FILES, *RECORDS]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (FILES[:2], r"as the only library, got none"),
        ((*FILES, "fvfast.libs/libgomp-a34b.so.1.0.0"), r"got .*libgomp-a34b.*OpenMP runtime"),
        ((*FILES, "fvfast/ops/_D.so"), r"as the only library, got .*_D\.so"),
        ((*FILES, "tests/__init__.py"), r"expected the package alone, got also .*'tests'"),
        ((FILES[0], FILES[2]), r"py\.typed is missing"),
    ],
    ids=["no module", "libgomp", "another module", "tests", "no types"],
)
def test_other_contents_are_refused(tmp_path, files, message):
    with pytest.raises(SystemExit, match=message):
        contents(wheel(tmp_path, *files))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other platforms")
@pytest.mark.parametrize("platform", ["linux_x86_64", "any"])
def test_a_platform_that_an_index_refuses(tmp_path, platform):
    with pytest.raises(SystemExit, match="expected a platform such as manylinux_2_28_x86_64"):
        check_tag(wheel(tmp_path, *FILES, platform=platform))


@pytest.mark.thorough
def test_a_wheel_whose_module_does_not_load_does_not_draw(tmp_path):
    """It is installed, found before the fvfast of this environment, and says why."""
    path = tmp_path / "fvfast-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((ROOT / "fvfast").rglob("*.py")):
            archive.write(file, file.relative_to(ROOT))
        archive.writestr("fvfast/_C.py", "raise ImportError('it is of another machine')\n")
        metadata = "Metadata-Version: 2.1\nName: fvfast\nVersion: 0.1.0\n"
        tags = "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr("fvfast-0.1.0.dist-info/METADATA", metadata)
        archive.writestr("fvfast-0.1.0.dist-info/WHEEL", tags)
        archive.writestr("fvfast-0.1.0.dist-info/RECORD", "")
    with pytest.raises(SystemExit, match=r"not in use: .*it is of another machine"):
        draw(path, Path(sys.executable))
