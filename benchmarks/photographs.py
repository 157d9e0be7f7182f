"""Gathers a few hundred real photographs from Python and Debian packages into one folder.

    python -m benchmarks.photographs FOLDER

Nothing is installed: ``apt-get download`` gets Debian's packages (330 MB), which are unpacked into
a temporary folder. The photographs of things and animals in tuxpaint-stamps-default are cut out;
here they stand before gray. The packages say under which license the photographs are.
"""

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from PIL import Image

_LARGEST = 768  # pixels, of the longer side
_GRAY = (128, 128, 128)

Packages = Mapping[str, tuple[str, str]]

PYTHON: Packages = {
    "skimage": (
        "data",
        r"(astronaut|brick|camera|chelsea|coffee|coins|grass|gravel|moon|motorcycle_left|rocket"
        r"|hubble_deep_field|retina)\.(png|jpg)",
    ),
    "sklearn": ("datasets/images", r"(china|flower)\.jpg"),
    "matplotlib": ("mpl-data/sample_data", r"grace_hopper\.jpg"),
}
"""Python packages: the folder in each, and which of its files are photographs."""

_STAMPS = r"(animals|food|household|plants|hobbies|sports|vehicles|town)/(?!.*(cartoon|toys|plastic"
_DRAWINGS = r"|outline|eye\.png|hedgehog|echidna|bee\.png|fly\.png|pizza|sedan_police|highlighter"

DEBIAN: Packages = {
    "lomiri-wallpapers-16.04": ("usr/share/backgrounds", r".+_by_.+\.jpg"),
    "lomiri-wallpapers-20.04": (
        "usr/share/backgrounds",
        r"(Fossa|Kleiber|Infinite-Sea).+\.jpg",
    ),
    "mate-backgrounds": ("usr/share/backgrounds/mate/nature", r".+\.jpg"),
    "opencv-doc": (
        "usr/share/doc/opencv-doc/examples",
        r"data/(aloeL|apple|baboon|basketball1|board|box_in_scene|building|butterfly|fruits|graf1"
        r"|home|leuvenA|messi5|orange|rubberwhale1|smarties|squirrel_cls|stuff|left01|cards"
        r"|licenseplate_motion)\.(png|jpg)"
        r"|alphamat/input_images/.+|text/scenetext0\d\.jpg|hfs/data/.+|dnn_superres/.+\.png",
    ),
    "tuxpaint-stamps-default": (
        "usr/share/tuxpaint/stamps",
        rf"{_STAMPS}{_DRAWINGS})).+\.png",
    ),
}
"""Debian packages: the folder in each, and which of its files are photographs."""


def gather(folder: Path, debian: Packages = DEBIAN) -> dict[str, int]:
    """Write photographs as JPEG files into folders named after their packages.

    Parameters
    ----------
    folder
        Where to.
    debian
        Debian's packages to take.

    Returns
    -------
    counts
        How many each package gave.

    Raises
    ------
    subprocess.CalledProcessError
        A package cannot be downloaded; ``apt-get update`` may help.
    """
    counts = {}
    for name, (below, pattern) in PYTHON.items():
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            print(f"{name} is not installed: left out", file=sys.stderr)
            continue
        counts[name] = _copy(Path(found.origin).parent / below, pattern, folder / name)
    for name, (below, pattern) in debian.items():
        with _unpacked(name) as files:
            counts[name] = _copy(Path(files) / below, pattern, folder / name)
    return counts


def _unpacked(package: str) -> "tempfile.TemporaryDirectory[str]":
    """Download a Debian package and unpack it into a temporary folder."""
    unpacked = tempfile.TemporaryDirectory()
    with tempfile.TemporaryDirectory() as here:
        # As whoever calls this: apt's own user may not write here, of which it would warn.
        command = ["apt-get", "-o", "APT::Sandbox::User=root", "download", package]
        subprocess.run(command, cwd=here, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(here).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, unpacked.name], check=True)
    return unpacked


def _copy(source: Path, pattern: str, target: Path) -> int:
    count = 0
    for path in _matching(source, pattern):
        with Image.open(path) as picture:
            picture.thumbnail((_LARGEST, _LARGEST))
            shown = picture.convert("RGBA")
        before_gray = Image.new("RGBA", shown.size, (*_GRAY, 255))
        before_gray.alpha_composite(shown)
        target.mkdir(parents=True, exist_ok=True)
        name = "-".join(path.relative_to(source).with_suffix("").parts)
        before_gray.convert("RGB").save(target / f"{name}.jpg", quality=92)
        count += 1
    return count


def _matching(source: Path, pattern: str) -> Iterator[Path]:
    for path in sorted(source.rglob("*")):
        if path.is_file() and re.fullmatch(pattern, path.relative_to(source).as_posix()):
            yield path


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    counts = gather(parser.parse_args().folder)
    for name, count in counts.items():
        print(f"{count:4} {name}")
    print(f"{sum(counts.values()):4} photographs")


if __name__ == "__main__":
    main()
