"""Checks a wheel before it is given to others: its tag, its files, and that it draws.

    python tools/release/check_wheel.py WHEEL [--beside PYTHON]

The wheel is installed alone into a new environment, which sees the packages of another Python, such
as torch: by default of the one that runs this.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

DRAW = Path(__file__).resolve().with_name("draw.py")


def contents(wheel: Path) -> list[str]:
    """Return the names of the files; raise SystemExit if some are missing, or too many."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    modules = [name for name in names if re.search(r"\.so(\.|$)", name)]
    if len(modules) != 1 or not re.fullmatch(r"fvfast/_C\.[^/]+\.so", modules[0]):
        raise SystemExit(
            f"{wheel.name}: expected fvfast/_C.*.so as the only library, got {modules or 'none'}. "
            "A copy of an OpenMP runtime beside that of torch would start threads of its own"
        )
    others = {name.split("/")[0] for name in names if not name.startswith("fvfast/")}
    if not all(re.fullmatch(r"fvfast-[^/]+\.dist-info", folder) for folder in others):
        raise SystemExit(f"{wheel.name}: expected the package alone, got also {sorted(others)}")
    if "fvfast/py.typed" not in names:
        raise SystemExit(f"{wheel.name}: fvfast/py.typed is missing")
    return names


def check_tag(wheel: Path) -> None:
    """Raise SystemExit if a package index would refuse the platform of a wheel."""
    if sys.platform == "linux" and not re.search(r"-(many|musl)linux_\d+_\d+_\w+$", wheel.stem):
        raise SystemExit(
            f"{wheel.name}: expected a platform such as manylinux_2_28_x86_64, which auditwheel "
            "repair writes; package indexes refuse others"
        )


def folders_of_packages(python: Path) -> list[str]:
    """Return the folders in which a Python finds installed packages, in its order."""
    program = "import sys; print(*sys.path, sep='\\n')"
    said = subprocess.run([python, "-I", "-c", program], capture_output=True, text=True, check=True)
    names = ("site-packages", "dist-packages")
    return [path for path in said.stdout.splitlines() if Path(path).name in names]


def draw(wheel: Path, python: Path) -> str:
    """Install the wheel beside the packages of a Python, and return what draw.py says."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder)
        ours = Path(folder, "bin", "python")
        packages = Path(folders_of_packages(ours)[0])
        # Paths alone: .pth files there, such as that of an editable fvfast, are not read.
        others = "\n".join(folders_of_packages(python))
        (packages / "others.pth").write_text(f"{others}\n")
        install = [sys.executable, "-m", "pip", "--quiet", "install", "--no-deps", "--no-index"]
        subprocess.run([*install, "--target", packages, wheel.resolve()], check=True)
        # -I: neither the folder of the program nor PYTHONPATH is searched.
        program = [ours, "-I", DRAW, packages]
        done = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{wheel.name} does not draw:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--beside", type=Path, default=Path(sys.executable), metavar="PYTHON")
    arguments = parser.parse_args()
    check_tag(arguments.wheel)
    count = len(contents(arguments.wheel))
    megabytes = arguments.wheel.stat().st_size / 1e6
    sys.stdout.write(f"{arguments.wheel.name}: {count} files, {megabytes:.1f} MB\n")
    sys.stdout.write(draw(arguments.wheel, arguments.beside))


if __name__ == "__main__":
    main()
