"""What users download: the source distribution, and the page that a package index makes of it."""

import email
import re
import shutil
import subprocess
import sys
import tarfile

import pytest
from small_project import ROOT, clean_environment

# What setuptools adds to a source distribution.
ADDED = r"PKG-INFO|setup\.cfg|fvfast\.egg-info/.+"
PROJECT = (ROOT / "pyproject.toml").read_text()
LINK = r"(!?)\[([^\[\]]*)\]\(([^)\s]+)\)"


def files_of_git():
    """The files of a checkout: those that git tracks, and new ones that it does not ignore."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a checkout, to know which files are the project's")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in said.stdout.split("\0") if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The source distribution, built of the checkout's files and unpacked."""
    folder = tmp_path_factory.mktemp("packaging")
    for name in files_of_git():
        target = folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    # What lies about where one works must stay out.
    for litter in ("tests/__pycache__/a.pyc", "fvfast/_C.so", "fvfast/_build_failure.txt"):
        (folder / "source" / litter).parent.mkdir(exist_ok=True)
        (folder / "source" / litter).touch()
    subprocess.run(
        [sys.executable, "-c", "from setuptools import build_meta; build_meta.build_sdist('..')"],
        cwd=folder / "source",
        env=clean_environment(),
        capture_output=True,
        check=True,
    )
    (archive,) = folder.glob("fvfast-*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


def test_the_source_distribution_has_all_that_git_has(unpacked):
    """Then it builds, tests itself, and has every helper of a test and every document."""
    files = (path for path in unpacked.rglob("*") if path.is_file())
    names = {path.relative_to(unpacked).as_posix() for path in files}
    ours = {name for name in names if not re.fullmatch(ADDED, name)}
    assert ours == files_of_git()
    assert len(ours) > 500


@pytest.mark.thorough
def test_the_source_distribution_tests_itself(unpacked):
    """All of its tests can be collected; those of its files, its rooms and objectives pass."""
    pytest_there = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    files = [f"tests/test_{name}.py" for name in ("project_files", "architecture", "objectives")]
    for arguments in (["--collect-only"], files):
        done = subprocess.run(
            [*pytest_there, *arguments],
            cwd=unpacked,
            env=clean_environment(PYTHONPATH=str(unpacked), FVFAST_DISABLE_NATIVE="1"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_every_link_of_the_page_is_absolute(unpacked):
    """The page has no folder that a path could start from; links lead to the project's home."""
    (home,) = re.findall(r'^Homepage = "(.+)"$', PROJECT, flags=re.MULTILINE)
    message = email.message_from_string((unpacked / "PKG-INFO").read_text())
    assert message["Description-Content-Type"] == "text/markdown"
    page, readme = message.get_payload(), (ROOT / "README.md").read_text()
    links, before = re.findall(LINK, page), re.findall(LINK, readme)
    assert len(links) == len(before) > 15
    for (mark, text, target), (mark_before, text_before, target_before) in zip(
        links, before, strict=True
    ):
        assert (mark, text) == (mark_before, text_before)
        if "://" in target_before:
            assert target == target_before
        else:
            kind = "raw" if mark else "blob"
            assert target == f"{home}/{kind}/main/{target_before}"
    # Nothing but links has changed, and there are no links of other kinds.
    assert re.sub(LINK, "", page).strip() == re.sub(LINK, "", readme).strip()
    rest = re.sub(LINK, "", page)
    assert "](" not in rest
    assert not re.search(r"<(a|img)\b|^\[[^]]+\]:", rest, flags=re.MULTILINE)


def test_the_page_is_that_of_every_distribution(unpacked):
    """A wheel is made of the source distribution, and says the same."""
    make = "build_meta.prepare_metadata_for_build_wheel('..')"
    program = [sys.executable, "-c", f"from setuptools import build_meta; {make}"]
    subprocess.run(program, cwd=unpacked, capture_output=True, check=True)
    (metadata,) = unpacked.parent.glob("fvfast-*.dist-info/METADATA")
    assert metadata.read_text() == (unpacked / "PKG-INFO").read_text()


def test_readme_says_how_long_an_installation_takes():
    readme = (ROOT / "README.md").read_text()
    (section,) = re.findall(r"^## Install$(.+?)^## ", readme, flags=re.MULTILINE | re.DOTALL)
    for words in ("minutes", "FVFAST_CUDA=1", "FVFAST_CUDA=0", "pip install -v ."):
        assert words in section
