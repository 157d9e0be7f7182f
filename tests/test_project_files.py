"""Files about the project say the same: versions of tools, of Python, and of the package."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = (ROOT / "pyproject.toml").read_text()


def read_yaml(name):
    return yaml.safe_load((ROOT / name).read_text())


def test_hooks_use_the_tools_of_make_lint():
    """mypy is in no pin of the hooks: it runs in the environment of make lint."""
    pins = dict(re.findall(r'^    "(ruff|clang-format|mypy)==(.+)",$', PROJECT, flags=re.MULTILINE))
    (repository,) = read_yaml(".pre-commit-config.yaml")["repos"]
    for hook in repository["hooks"]:
        (tool,) = (name for name in pins if re.match(rf"(.venv/bin/)?{name}\b", hook["entry"]))
        expected = [f"{tool}=={pins[tool]}"] if tool != "mypy" else None
        assert hook.get("additional_dependencies") == expected, hook["id"]
    assert len(repository["hooks"]) == 4


def test_every_python_that_is_claimed_is_tested_with_two_versions_of_torch():
    claimed = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PROJECT)
    (oldest,) = re.findall(r'^requires-python = ">=(.+)"$', PROJECT, flags=re.MULTILINE)
    assert claimed[0] == oldest
    matrix = read_yaml(".github/workflows/checks.yml")["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["torch"] == ["newest"]
    assert matrix["python"] == claimed
    assert [entry["python"] for entry in matrix["include"]] == claimed
    (oldest_torch,) = re.findall(r'^    "torch>=(.+)",$', PROJECT, flags=re.MULTILINE)
    assert matrix["include"][0]["torch"] == oldest_torch


def test_the_citation_is_of_this_version():
    (version,) = re.findall(r'^version = "(.+)"$', PROJECT, flags=re.MULTILINE)
    assert read_yaml("CITATION.cff")["version"] == version
    heading = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert heading is not None
    assert heading[1] in ("Unreleased", version)


def test_every_folder_is_packaged():
    (listed,) = re.findall(r"^packages = \[(.+?)\]", PROJECT, flags=re.MULTILINE | re.DOTALL)
    folders = {path.parent for path in (ROOT / "fvfast").rglob("*.py")}
    expected = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert set(re.findall(r'"(.+?)"', listed)) == expected


def anchors(text):
    """What links to headings of a document end with, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_between_documents_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "tools").glob("*/*.md")]
    checked, broken = 0, []
    for page in pages:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if "://" in link:
                continue
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            checked += 1
            found = target.exists() and (not anchor or anchor in anchors(target.read_text()))
            if not found:
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert checked > 40
    assert not broken


def test_files_that_documents_name_are_there():
    """Paths from the root, fvfast/ or csrc/; the example of CONTRIBUTING.md is not there.

    Nor is what a build makes, in a new checkout.
    """
    made = (ROOT / ".gitignore").read_text().split()
    checked, missing = 0, []
    for page in ("README.md", "CONTRIBUTING.md", "docs/architecture.md"):
        text = re.sub(r"^ {4}.*$", "", (ROOT / page).read_text(), flags=re.MULTILINE)
        for path in re.findall(r"`((?:[\w.*-]+/)+[\w.*-]*)`", text):
            if "scale" in path or path in made:
                continue
            checked += 1
            if not any(any(folder.glob(path)) for folder in (ROOT, ROOT / "fvfast", ROOT / "csrc")):
                missing.append(f"{page}: {path}")
    assert checked > 60
    assert not missing
