"""The code is laid out as docs/architecture.md says: who imports whom, and which names are public.

The document has the order of the rooms and the public names; the tests read them there.
"""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest
from launched_kernels import all_kernels

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fvfast"
PAGE = (ROOT / "docs" / "architecture.md").read_text()
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def section(heading):
    """The text below a heading of the page, to the next one."""
    return re.search(rf"^## {heading}$(.+?)(?=^## |\Z)", PAGE, flags=re.M | re.S)[1]


def floors():
    """Floor of each room."""
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", section("Rooms"), flags=re.M)
    return {room: int(floor) for floor, names in rows for room in re.findall(r"`(\w+)`", names)}


def room_of(module):
    """The folder of a module, or the module itself if it is in none."""
    return module.split(".")[1] if "." in module else "__init__"


def imports(module):
    """Modules of fvfast that a module imports, anywhere in it, with the lines."""
    found = []
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}, line {node.lineno}: a relative import"
            # "from fvfast.ops import boxes" imports a module; "... import draw_boxes" a name of it.
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module for name in whole]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found += [(name, node.lineno) for name in names if name in MODULES]
    return found


IMPORTS = {module: imports(module) for module in MODULES}


def test_every_room_has_a_floor():
    """The page lists every room, and no others."""
    assert set(map(room_of, MODULES)) == set(floors())


def test_rooms_import_what_stands_below_them():
    floor = floors()
    wrong = [
        f"{module}, line {line}, imports {name}: {room_of(module)} is on floor "
        f"{floor[room_of(module)]}, {room_of(name)} on floor {floor[room_of(name)]}"
        for module, found in IMPORTS.items()
        for name, line in found
        if room_of(name) != room_of(module) and floor[room_of(name)] >= floor[room_of(module)]
    ]
    assert not wrong, "\n".join(wrong)


def test_modules_import_each_other_in_no_circle():
    """Within a room too."""
    done, path = set(), []

    def visit(module):
        if module in path:
            raise AssertionError(" imports ".join([*path[path.index(module) :], module]))
        if module in done:
            return
        path.append(module)
        for name, _ in IMPORTS[module]:
            visit(name)
        path.pop()
        done.add(module)

    for module in MODULES:
        visit(module)


def test_modules_with_an_underscore_stay_in_their_room():
    """Except what `fvfast info` needs from the native module, and the room that all rooms share."""
    wrong = [
        f"{module}, line {line}, imports {name}"
        for module, found in IMPORTS.items()
        for name, line in found
        if "._" in name and room_of(name) not in (room_of(module), "_shared")
        if (module, name) != ("fvfast.cli.installation", "fvfast.ops._kernels")
    ]
    assert not wrong, "\n".join(wrong)


def test_native_sources_include_what_stands_below_them():
    allowed = {
        "bindings": {"bindings", "cpu", "cuda", "ops.h", "common"},
        "cpu": {"cpu", "ops.h", "common"},
        "cuda": {"cuda", "ops.h", "common"},
        "common": {"ops.h", "common"},
        "ops.h": {"common"},
    }
    checked, wrong = 0, []
    for path in sorted((ROOT / "csrc").rglob("*")):
        folder = path.relative_to(ROOT / "csrc").parts[0]
        if path.suffix not in (".h", ".cpp", ".cu") or folder == "bindings.cpp":
            continue
        for kind, name in re.findall(r'^#include ([<"])(.+?)[>"]', path.read_text(), flags=re.M):
            if kind == '"':
                fits = name.split("/")[0] in allowed[folder]
            else:
                fits = not re.match(r"(torch|ATen|c10|Python\.h)", name) and (
                    folder == "bindings" or not name.startswith("pybind11")
                )
            checked += 1
            if not fits:
                wrong.append(f"{path.relative_to(ROOT)} includes {name}")
    assert checked > 100
    assert not wrong, "\n".join(wrong)


def test_every_cuda_kernel_is_counted_and_described():
    """In the floors of make cuda-check, and in docs/kernels.md."""
    kernels = all_kernels()
    assert len(kernels) >= 14
    checks = "".join(path.read_text() for path in (ROOT / "tools/cuda_check").rglob("*.py"))
    assert not kernels - set(re.findall(r'\bFloor\(\s*"(\w+)"', checks))
    described = (ROOT / "docs" / "kernels.md").read_text()
    assert not {name for name in kernels if f"`{name}" not in described}


def public_names():
    """Names by module, as the page lists them."""
    rows = re.findall(r"^\| `([\w.]+)` \| (.+) \|$", section("What you may rely on"), flags=re.M)
    return {module: re.findall(r"`(\w+)`", names) for module, names in rows}


PUBLIC = public_names()


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_there(module):
    names = PUBLIC[module]
    loaded = importlib.import_module(module)
    assert not [name for name in names if not hasattr(loaded, name)]
    if hasattr(loaded, "__all__"):
        assert sorted(loaded.__all__) == sorted(names)


def public_functions():
    """All public functions, those of public classes included."""
    for module, names in PUBLIC.items():
        for name in names:
            value = getattr(importlib.import_module(module), name)
            if inspect.isfunction(value):
                yield f"{module}.{name}", value
            elif inspect.isclass(value):
                yield from (
                    (f"{module}.{name}.{method}", member)
                    for method, member in inspect.getmembers(value, inspect.isroutine)
                    if not method.startswith("_") and is_of_fvfast(member)
                )


def is_of_fvfast(member):
    """Whether a method is written here, as a function or for the class."""
    return (getattr(member, "__module__", None) or "").startswith("fvfast")


def documented(docstring, heading):
    """Names that a section of a docstring in numpy's style describes."""
    text = inspect.cleandoc(docstring)
    found = re.search(rf"^{heading}\n-+\n(.+?)(?=^\w[^\n]*\n-+\n|\Z)", text, flags=re.M | re.S)
    if found is None:
        return None
    lines = re.findall(r"^([\w*].*)$", found[1], flags=re.M)
    return {name.strip("* \n") for line in lines for name in line.split(",")}


def test_every_parameter_of_a_public_function_is_documented():
    wrong, checked = [], 0
    for name, function in public_functions():
        parameters = {one for one in inspect.signature(function).parameters if one != "self"}
        described = documented(function.__doc__ or "", "Parameters")
        if described and "others" in described:  # "As in `maco`."
            maco = documented(importlib.import_module("fvfast").maco.__doc__, "Parameters")
            described = (described - {"others"}) | (maco & parameters)
        if described is not None:
            checked += 1
            wrong += [f"{name}: {one}" for one in sorted(parameters ^ described)]
        elif not function.__doc__:
            wrong.append(name)
    assert checked > 30
    assert not wrong, "\n".join(wrong)


OWN = {
    "fvfast", "benchmarks", "build_native", "setup",
    "cuda_check", "cuda_emulator", "ptx_interpreter",
}  # fmt: skip


def imported_names(tree):
    """Full names of what a program imports, by the names that they have in it."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def replacements(source):
    """What a test replaces by `pytest.MonkeyPatch` or `unittest.mock`, or sets on a module.

    Returns
    -------
    found
        Lines, and full names of the owners; those of owners that are not imported begin with "?".
    """
    tree = ast.parse(source)
    imported = imported_names(tree)

    def full_name(node):
        if isinstance(node, ast.Constant):
            return str(node.value)
        first, *rest = ast.unparse(node).split(".")
        return ".".join([imported.get(first, f"?{first}"), *rest])

    def owners(node):
        if isinstance(node, ast.Call) and node.args:
            called, name = ast.unparse(node.func), full_name(node.args[0])
            is_patch = re.search(r"\.(setattr|delattr)$|(^|\.)patch(\.object)?$", called)
            # Python's own are also for what a test has made.
            if is_patch or (called in ("setattr", "delattr") and is_own(name)):
                yield name
        if isinstance(node, ast.Assign):
            attributes = (one for one in node.targets if isinstance(one, ast.Attribute))
            for name in (full_name(one.value) for one in attributes):
                # Objects of the process, such as CAPTURES, have attributes that may be set.
                if is_own(name) and not name.rpartition(".")[2].isupper():
                    yield name

    return [(node.lineno, name) for node in ast.walk(tree) for name in owners(node)]


def is_own(name):
    return name.split(".")[0] in OWN


@pytest.mark.parametrize(
    ("source", "owner"),
    [
        ("import fvfast.maco as m\nmonkeypatch.setattr(m, 'maco', 1)", "fvfast.maco"),
        ("from fvfast.run import loop\nloop.free_bytes = 1", "fvfast.run.loop"),
        ("from fvfast.run.loop import _Loop\nsetattr(_Loop, 'take', 1)", "fvfast.run.loop._Loop"),
        ("from fvfast.cli import app\np.delattr(app.maco, 'x')", "fvfast.cli.app.maco"),
        ("patch.setattr('fvfast.models.torch', 1)", "fvfast.models.torch"),
        ("def f(gate):\n    with mock.patch.object(gate, 'x'): pass", "?gate"),
        ("@mock.patch('benchmarks.load.x')\ndef f(): pass", "benchmarks.load.x"),
        ("import torch\np.setattr(torch.cuda, 'init', 1)", "torch.cuda"),
        ("model.training = True", None),
        ("setattr(self, name, part)", None),
    ],
)
def test_replacements_are_found(source, owner):
    assert [name for _, name in replacements(source)] == ([] if owner is None else [owner])


def test_no_test_replaces_what_it_tests():
    """Only what stands for a machine or a library that is not here is replaced.

    Whatever else a test wants to be different, it hands in: as an argument, in an object.
    """
    wrong, checked = [], 0
    for path in sorted((*(ROOT / "tests").rglob("*.py"), *(ROOT / "tools").rglob("*.py"))):
        found = replacements(path.read_text())
        checked += len(found)
        # An owner that is not imported may be anything.
        wrong += [
            f"{path.relative_to(ROOT)}, line {line}: {name}"
            for line, name in found
            if is_own(name) or name.startswith("?")
        ]
    assert checked > 30
    assert not wrong, "\n".join(wrong)
