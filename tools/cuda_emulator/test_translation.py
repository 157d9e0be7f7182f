"""The translation of CUDA C++: what is understood, what is left alone, what is refused."""

from pathlib import Path

import pytest

from cuda_emulator.translate import TranslationError, main, translate

ROOT = Path(__file__).resolve().parent.parent.parent
LAUNCH = '::cuda_emulator::Launch("{0}", {1}).of({0})'
CUDA = [
    path
    for folder in (ROOT / "csrc/cuda", Path(__file__).parent / "kernels")
    for path in sorted(folder.rglob("*.*"))
]


def translated(text):
    """What becomes of the lines of a source."""
    include, line, *lines = translate(text, "x.cu").split("\n")
    assert include == '#include "cuda_emulator.h"'
    assert line == '#line 1 "x.cu"'
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("kernel", "configuration"),
    [
        ("k", "1, 2"),
        ("fvfast::cuda::k", "dim3(1, 2), dim3(f<A<B<1>>>(x), 4), 0, stream"),
        ("k<float, Pair<int, 3>>", "1, 2, sizeof(float) * 4, s"),
        ("k<T, (N > 1), f(a < b)>", "g.x >> 3, 1 << 5"),
        ("::k<kFlag ? 1 : 2>", "(n + 127) / 128, 128"),
    ],
)
def test_launches(kernel, configuration):
    assert translated(f"  {kernel}<<<{configuration}>>>(a, b);") == (
        f"  {LAUNCH.format(kernel, configuration)}(a, b);"
    )


def test_a_launch_on_several_lines_keeps_them():
    lines = translated("k<float,\n  4>\n  <<<1,\n  2>>>(\n  a);").split("\n")
    assert len(lines) == 5
    assert "".join(lines).count('Launch("k<float, 4>", ') == 1
    assert lines[-1] == "  a);"


@pytest.mark.parametrize(
    ("declaration", "expected"),
    [
        ("__shared__ float a[32];", "auto& a = {}float[32]>(1, [] {{}});"),
        ("__shared__ unsigned int a;", "auto& a = {}unsigned int>(1, [] {{}});"),
        (
            "__shared__ Pair<int, 2> a[N][M + 1];",
            "auto& a = {}Pair<int, 2>[N][M + 1]>(1, [] {{}});",
        ),
        ("__shared__ __align__(16) char a[f(1)];", "auto& a = {}char[f(1)]>(16, [] {{}});"),
        (
            "__shared__ T a[2], b;",
            "auto& a = {0}T[2]>(1, [] {{}}); auto& b = {0}T>(1, [] {{}});",
        ),
    ],
)
def test_shared_variables(declaration, expected):
    assert translated(declaration) == expected.format("::cuda_emulator::shared_variable<")


def test_dynamic_shared_memory():
    assert translated("extern __shared__ double2 a[];") == (
        "double2* a = ::cuda_emulator::dynamic_shared<double2>(1);"
    )
    assert translated("extern __shared__ alignas(16) unsigned char a [ ];") == (
        "unsigned char* a = ::cuda_emulator::dynamic_shared<unsigned char>(16);"
    )


def test_launch_bounds_are_checked_in_bodies_only():
    assert translated("__global__ void __launch_bounds__(N, 2) k(int a = f());") == (
        "__global__ void __launch_bounds__(N, 2) k(int a = f());"
    )
    assert translated("__global__ void __launch_bounds__(f(N), 2)\n k(int a)\n{ b(); }") == (
        "__global__ void __launch_bounds__(f(N), 2)\n k(int a)\n"
        "{ ::cuda_emulator::require_launch_bounds(f(N), 2); b(); }"
    )


@pytest.mark.parametrize(
    "text",
    [
        "// k<<<1, 2>>>(a); __shared__",
        "/* __shared__ float\n a[4]; */",
        'f("k<<<1, 2>>>(a)");',
        "x = 1'000'000 << 3; c = '\"';",
        "#define SHARED __shared__",
        'R"(k<<<1)"',
    ],
)
def test_what_is_not_code_stays(text):
    assert translated(text) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n(*k)<<<1, 2>>>(a);", "x.cu:2: no name of a kernel precedes <<<"),
        ("k<<<1, 2>>;", "x.cu:1: no >>> follows"),
        ("k<<<1, 2>>> a;", "x.cu:1: no arguments follow >>>"),
        ("k>><<<1, 2>>>(a);", "x.cu:1: no < matches the > before <<<"),
        ("extern __shared__ float a[3];", "x.cu:1: expected extern __shared__ TYPE NAME"),
        ("__shared__ float (*a)[3];", "x.cu:1: expected __shared__ TYPE NAME"),
        ("__shared__ float a[3;", r"x.cu:1: this \[ is not closed"),
    ],
)
def test_what_is_not_understood_is_refused(text, message):
    with pytest.raises(TranslationError, match=message):
        translate(text, "x.cu")


@pytest.mark.parametrize("path", CUDA, ids=lambda path: path.name)
def test_line_numbers_stay(path):
    before = path.read_text().split("\n")
    after = translate(path.read_text(), path.name).split("\n")[2:]
    assert len(after) == len(before)
    assert "__shared__" not in "\n".join(after)
    changed = [i for i, lines in enumerate(zip(before, after, strict=True)) if len({*lines}) > 1]
    for i in changed:
        assert any(word in after[i] for word in ("cuda_emulator", ").of(", "<<<")) or (
            not after[i].strip()
        )


def test_an_unchanged_translation_is_not_written_again(tmp_path):
    source, target = tmp_path / "a.cu", tmp_path / "out/a.cpp"
    source.write_text("k<<<1, 2>>>();")
    main(str(source), str(target))
    first = target.stat().st_mtime_ns
    main(str(source), str(target))
    assert target.stat().st_mtime_ns == first
    assert "Launch" in target.read_text()
