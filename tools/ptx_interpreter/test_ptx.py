"""Tests of the PTX interpreter: kernels.cu, compiled by nvcc for several GPUs, against numpy."""

import struct
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from ptx_interpreter import Module, PtxError, compile_ptx, find_nvcc

HERE = Path(__file__).parent
f4, f8, i4, u4 = np.float32, np.float64, np.int32, np.uint32


@lru_cache(None)
def module(arch, flags=()):
    if find_nvcc() is None:
        pytest.skip("needs nvcc, which compiles the kernels to PTX")
    return Module(compile_ptx(HERE / "kernels.cu", arch, flags))


# The short suite has the oldest and the newest.
THOROUGH = [pytest.param(arch, marks=pytest.mark.thorough) for arch in ("80", "90")]


@pytest.fixture(params=["75", *THOROUGH, "120"], ids="sm_{}".format)
def m(request):
    return module(request.param)


@pytest.fixture
def m80():
    return module("80")


def rng():
    return np.random.default_rng(0)


def ulp(got, want):
    """Error in units in the last place of the (double) reference rounded to got's type."""
    w = want.astype(got.dtype)
    return np.abs(got.astype(f8) - want) / np.spacing(np.abs(w)).astype(f8)


def test_everything_decodes(m):
    for k in m.kernels.values():
        assert not k.unsupported, (k, k.unsupported)
    k = m.find("block_sum<float>")
    assert k.maxntid == 256
    assert k.static_shared == 128
    assert [p.size for p in k.params] == [8, 8, 4]


@pytest.mark.parametrize("order", [0, 1, 7])
@pytest.mark.parametrize("dtype", [f4, f8])
def test_block_sum(m, dtype, order):
    x = rng().standard_normal(1000).astype(dtype)
    out = np.zeros(4, dtype)
    name = "block_sum<float>" if dtype == f4 else "block_sum<double>"
    s = m.launch(name, 4, 256, args=[x, out, i4(1000)], order=order)
    want = np.pad(x.astype(f8), (0, 24)).reshape(4, 256).sum(1)
    assert np.abs(out - want).max() < (1e-5 if dtype == f4 else 1e-13)
    assert s["barriers"] == 4
    assert s["global_bytes_read"] == x.nbytes
    assert s["global_bytes_written"] == out.nbytes
    assert s["buffers"]["arg0"]["unique_read"] == x.nbytes


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize(("t", "ctype"), [("float", "c8"), ("double", "c16")])
def test_fft512(m, t, ctype, order):
    g = rng()
    x = (g.standard_normal((3, 512)) + 1j * g.standard_normal((3, 512))).astype(ctype)
    y = np.zeros_like(x)
    s = m.launch(f"fft512<{t}, true>", 3, 256, 2 * 512 * x.itemsize, [x, y], order=order)
    assert np.abs(y - np.fft.fft(x)).max() < (3e-5 if t == "float" else 1e-12)
    assert s["barriers"] == 3 * 10


def test_missing_barrier_shows(m):
    g = rng()
    x = (g.standard_normal(512) + 1j * g.standard_normal(512)).astype("c8")
    bad = 0
    for order in (0, 1, 2):
        y = np.zeros_like(x)
        m.launch("fft512<float, false>", 1, 256, 8192, [x, y], order=order)
        bad += not np.allclose(y, np.fft.fft(x), atol=1e-3)
    assert bad == 3
    for fix, n in ("true", 1), ("false", 2):
        results = set()
        for order in (0, 1, 5):
            v = np.arange(64, dtype=f4)
            m.launch(f"war<{fix}>", 1, 64, args=[v], order=order)
            results.add(v.tobytes())
        assert len(results) >= n
        assert n > 1 or results == {(2 * ((np.arange(64) + 1) % 64)).astype(f4).tobytes()}


def test_philox_known_answers(m):
    pi = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0]
    ctr = np.array([[0] * 4, [0xFFFFFFFF] * 4, pi[:4]], u4)
    key = np.array([[0, 0], [0xFFFFFFFF] * 2, pi[4:]], u4)
    out = np.zeros_like(ctr)
    m.launch("philox", 1, 3, args=[ctr, key, out])
    assert [" ".join(f"{v:08x}" for v in row) for row in out] == [
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ]


@pytest.mark.parametrize("big", [False, True])
def test_math(m, big):
    x = (rng().standard_normal(1000) * (1e6 if big else 3)).astype(f4)
    x[:4] = 0.5, -0.25, 1e-30, 100000.0
    o = np.zeros((1000, 16), f4)
    m.launch("math", 4, 256, args=[x, o, i4(1000)])
    v = x.astype(f8)
    p = (np.abs(x) + f4(1e-6)).astype(f8)
    w = np.remainder(v, 2)
    erf = torch.erf(torch.tensor(v)).numpy()
    with np.errstate(all="ignore"):
        want = [
            np.sin(v),
            np.cos(v),
            np.sin(np.pi * w),
            np.cos(np.pi * w),
            np.log(p),
            np.exp(v),
            np.sqrt(p),
            np.tanh(v),
            p ** f8(f4(1.7)),
            v / f8(f4(3.1)),
            1 / p,
            p**-0.5,
            np.log1p(p),
            erf,
            np.cbrt(v),
            np.fmod(v, f8(f4(0.7))),
        ]
        # the bounds of the CUDA programming guide, in ulp (rsqrtf: 2; rounding adds half)
        bounds = [2, 2, 2, 2, 1.5, 2, 0.5, 2, 4, 0.5, 0.5, 2, 1.5, 2.5, 1.5, 0]
        for k, (a, b) in enumerate(zip(want, bounds, strict=False)):
            ok = np.isfinite(a.astype(f4)) & (np.abs(a) > 1e-37)
            if k in (2, 3):  # sin(pi w) near its zeros: numpy's reference is bad there
                ok &= np.abs(a) > 1e-6
            assert np.all(ulp(o[:, k], a)[ok] <= b + 0.01), (k, ulp(o[:, k], a)[ok].max())
            over = ~np.isfinite(a.astype(f4))
            assert np.array_equal(o[over, k], a.astype(f4)[over])


def test_fast_math(m):
    x = rng().uniform(-3, 3, 1000).astype(f4)
    o = np.zeros((1000, 8), f4)
    m.launch("fast", 4, 256, args=[x, o, i4(1000)])
    v, p = x.astype(f8), (np.abs(x) + f4(1e-6)).astype(f8)
    want = [
        np.sin(v),
        np.cos(v),
        np.log(p),
        np.exp(v),
        np.sqrt(p),
        v / (p + 1),
        p ** f8(f4(1.7)),
        np.exp2(v),
    ]
    for k, a in enumerate(want):
        assert np.abs(o[:, k] / a - 1).max() < 2e-6 or np.abs(o[:, k] - a).max() < 1e-6, k


def test_use_fast_math_flag():
    m = module("80", ("--use_fast_math",))
    x = rng().uniform(-3, 3, 256).astype(f4)
    x[0] = 1e-40
    o = np.zeros((256, 16), f4)
    m.launch("math", 1, 256, args=[x, o, i4(256)])
    assert np.abs(o[:, 0] - np.sin(x)).max() < 1e-6
    assert o[0, 9] == 0
    assert not any(k.unsupported for k in m.kernels.values())


def test_math64(m):
    v = rng().standard_normal(128) * 5
    v[:2] = 600, 1e-5
    o = np.zeros((128, 10))
    m.launch("math64", 1, 128, args=[v, o, i4(128)])
    p = np.abs(v) + 1e-9
    want = [
        np.sin(v),
        np.cos(v),
        np.log(p),
        np.exp(v),
        np.sqrt(p),
        p**1.7,
        v / 3.1,
        1 / p,
        np.tanh(v),
        p**-0.5,
    ]
    for k, a in enumerate(want):
        assert np.abs(o[:, k] / a - 1).max() < 1e-14, k


def test_rounding_modes(m):
    from fractions import Fraction as Q

    g = rng()
    a, b = (g.standard_normal(256) * 10).astype(f4), g.standard_normal(256).astype(f4)
    o = np.zeros((256, 8), f4)
    m.launch("rounding", 1, 256, args=[a, b, o])

    def toward0(r, q):
        return (
            abs(Q(float(r))) <= abs(q) < abs(Q(float(np.nextafter(r, f4(np.copysign(np.inf, r))))))
        )

    def up(r, q):
        return Q(float(np.nextafter(r, f4(-np.inf)))) < q <= Q(float(r))

    def down(r, q):
        return Q(float(r)) <= q < Q(float(np.nextafter(r, f4(np.inf))))

    for x, y, r in zip(a, b, o, strict=False):
        x, y = Q(float(x)), Q(float(y))
        assert toward0(r[0], x + y)
        assert up(r[1], x + y)
        assert down(r[2], x + y)
        assert toward0(r[3], x * y)
        assert up(r[4], x * y + x)
        assert down(r[5], x / y)
        assert Q(float(np.nextafter(r[6], f4(0)))) ** 2 < abs(x) <= Q(float(r[6])) ** 2
        assert Q(float(r[7])) == x * y - Q(
            float(f4(float(x)) * f4(float(y)))
        )  # fma is fused: the exact rounding error


def test_conversions(m):
    x = np.array(
        [
            0.5,
            1.5,
            2.5,
            -0.5,
            -1.5,
            -2.7,
            1e10,
            -1e10,
            3e9,
            1e20,
            -1e20,
            np.inf,
            -np.inf,
            np.nan,
            0.1,
            123456.789,
            -129.5,
            70000.2,
        ]
    )
    o = np.zeros((len(x), 16), np.int64)
    m.launch("convert", 1, len(x), args=[x, o])
    f = x.astype(f4)

    def clamp(v, lo, hi):
        return int(min(max(v, lo), hi))

    for d, g, r in zip(x, f, o, strict=False):
        g = float(g)
        if np.isnan(d):
            assert r[0] == -(2**31)
            assert r[1] == 2**31
            assert r[2] == -(2**63)
            assert list(r[4:9]) == [0] * 5
            assert r[9] == -(2**63)
            continue

        def tr(v):
            return v if np.isinf(v) else np.trunc(v)

        s32, u32, s64 = (-(2**31), 2**31 - 1), (0, 2**32 - 1), (-(2**63), 2**63 - 1)
        want = [
            clamp(tr(d), *s32),
            clamp(tr(d), *u32),
            clamp(tr(d), *s64),
            clamp(tr(d), 0, 2**64 - 1),
            clamp(np.rint(g), *s32),
            clamp(np.ceil(g), *s32),
            clamp(np.floor(g), *s32),
            clamp(tr(g), *s32),
            clamp(tr(g), *u32),
            clamp(np.rint(g), *s64),
        ]
        assert [int(v) % 2**64 for v in r[:10]] == [v % 2**64 for v in want], d
        i = want[7]
        assert r[11] == ((i + 128) % 256) - 128
        assert r[12] == i % 65536

        def back(v):
            return f4(np.int32(v).view(f4))

        assert back(r[13]) == np.rint(f4(g))
        assert back(r[15]) == np.floor(f4(g))
        assert abs(back(r[14])) <= abs(d)
        assert np.isinf(d) or abs(d) < abs(np.nextafter(back(r[14]), f4(np.copysign(np.inf, d))))


def test_halves(m):
    x = rng().standard_normal(512).astype(f4) * np.exp2(np.arange(512) % 60 - 30).astype(f4)
    x[:8] = 65504, 65519.99, 65520, 6e-8, 2.98e-8, -0.0, np.inf, 3.3895e38
    h, b, back, h2, b2 = (
        np.zeros(512, "f2"),
        np.zeros(512, "u2"),
        np.zeros((512, 2), f4),
        np.zeros((512, 2), "f2"),
        np.zeros((512, 2), "u2"),
    )
    m.launch("halves", 2, 256, args=[x, h, b, back, h2, b2, i4(512)])
    with np.errstate(over="ignore", invalid="ignore"):

        def bf(v):
            return torch.tensor(v).to(torch.bfloat16)

        assert np.array_equal(h.view("u2"), x.astype("f2").view("u2"))
        assert np.array_equal(b.view("i2"), bf(x).view(torch.int16).numpy())
        assert np.array_equal(back[:, 0], h.astype(f4))
        assert np.array_equal(back[:, 1], bf(x).float().numpy())
        y = np.roll(x, -1)
        hx, hy = x.astype("f2").astype(f8), y.astype("f2").astype(f8)
        want = np.stack(
            [hx * hy + 1, hy * hy - hx], 1
        )  # fma: one rounding (double is exact enough for these values)
        fin = np.isfinite(want) & (np.abs(want) < 60000)
        assert np.array_equal(h2[fin], want.astype("f2")[fin])
        sums = torch.stack([bf(x).double() + bf(y).double(), bf(y).double() + 3], 1)
        mine = torch.tensor(b2.view("i2")).view(torch.bfloat16)
        ok = torch.isfinite(sums)
        assert torch.all((mine.double() - sums)[ok].abs() <= sums[ok].abs() * 2**-8)


@pytest.mark.parametrize("kernel", ["copy4", "copyu4"])
def test_vector_copy(m, kernel):
    x = rng().integers(0, 2**32, (1000, 4), u4)
    o = np.zeros_like(x)
    s = m.launch(kernel, 4, 256, args=[x, o, i4(1000)])
    assert np.array_equal(x, o)
    assert s["load_widths"] == {"16": 1000}
    assert s["store_widths"] == {"16": 1000}
    assert s["load_sectors"] == s["load_sectors_ideal"] == 500


def test_torch_tensors_and_struct_buffers(m):
    x, o = torch.randn(64, 4), torch.zeros(64, 4)
    m.launch("copy4", 1, 64, args=[x, o, 64])
    assert torch.equal(x, o)


def test_misaligned(m):
    x, o = np.zeros(8, f4), np.zeros(4, f4)
    with pytest.raises(PtxError, match="misaligned"):
        m.launch("misalign", 1, 1, args=[x, o])


@pytest.mark.parametrize("order", [0, 1, 9])
def test_atomics(m, order):
    n = 500
    idx = rng().integers(0, 37, n).astype(i4)
    f, d, u, mx, total = (
        np.zeros(128, f4),
        np.zeros(128),
        np.zeros(128, u4),
        np.full(1, -5, i4),
        np.zeros(1, np.uint64),
    )
    m.launch("atomics", 2, 256, args=[f, d, u, mx, total, idx, i4(n)], order=order)
    count = np.bincount(idx, minlength=37)
    assert np.array_equal(f[:37], 1.5 * count)
    assert f[99] == n
    assert np.array_equal(d[:37], np.bincount(idx, 0.25 * np.arange(n), 37))
    assert np.array_equal(u[:37], count % 7)
    assert u[100] == 3 * n
    assert mx[0] == n - 1
    assert total[0] == sum(range(n)) << 20


def test_constants_and_globals(m):
    o = np.zeros(16, f4)
    m.symbol("unset", f4)[:] = [0.5, 0, 0, 0.25]
    before = m.symbol("counter", i4)[0]
    m.launch("constants", 1, 16, args=[o])
    want = 2.0 ** (np.arange(16) % 8) + np.array([0.5, 0, 0, 0.25])[np.arange(16) % 4]
    want[0] += 7
    assert np.array_equal(o, want.astype(f4))
    assert m.symbol("counter", i4)[0] == before + 7


def args_struct(out, n):
    w = np.arange(6, dtype=f4) + 0.5
    return struct.pack(
        "=Qi6fi" + "h6xd" + "3B5x", out.ctypes.data, n, *w, 0, -3, 2.25, 1, 2, 250
    ), w


def test_struct_params(m):
    out = np.zeros(20, f4)
    raw, w = args_struct(out, 20)
    i = np.arange(20)
    m.launch("structs", 1, 32, args=[raw, i4(2)], buffers={"out": out})
    assert np.array_equal(out, w[(i + 2) % 6] * -3 + f4(2.25) + np.array([1, 2, 250], f4)[i % 3])
    m.launch("grid_constant", 1, 32, args=[raw, 5], buffers=[out])
    assert np.array_equal(out, w[(i * 5) % 6])
    with pytest.raises(PtxError, match="bytes"):
        m.launch("structs", 1, 32, args=[raw[:-8], i4(2)], buffers=[out])
    with pytest.raises(
        PtxError, match="global memory access out of bounds"
    ):  # the pointer in the struct is not registered
        m.launch("structs", 1, 32, args=[raw, i4(2)])


def test_local_array(m):
    x, o, n = rng().integers(-(2**31), 2**31, 40).astype(i4), np.zeros(64, i4), 35
    m.launch("local_array", 1, 64, args=[x, o, n])
    for t in range(64):
        a = [(int(v) + t) for v in x[:32]]
        for i in range(n):
            a[x[i] & 31] = (a[x[i] & 31] + a[x[i + 1] & 31] * i) % 2**32
        s = 0
        for v in a:
            s = (s * 31 + v) % 2**32
        assert s == int(o[t]) % 2**32


def test_switch(m):
    x = (np.arange(128) % 14 - 1).astype(i4)
    o = np.zeros(128, i4)
    m.launch("switch12", 1, 128, args=[x, o])
    f = [
        lambda _: 100,
        lambda i: i * 3,
        lambda i: i ^ 5,
        lambda i: i.bit_count(),
        lambda i: i // 3,
        lambda i: i % 5,
        lambda i: i << 3,
        lambda i: -i,
        lambda i: 32 - i.bit_length(),
        lambda i: int(f"{i:032b}"[::-1], 2),
        lambda i: i * i,
        lambda _: 77,
    ]
    for i in range(128):
        want = f[x[i]](i) if 0 <= x[i] < 12 else -1
        assert int(o[i]) % 2**32 == want % 2**32, i


def test_device_functions(m):
    assert m.find("noinline").functions >= 1
    o = np.zeros((40, 4), f4)
    m.launch("noinline", 1, 40, args=[o, struct.pack("=h6xd", 3, 0.5)])
    for i in range(40):
        a = np.roll(np.arange(i, i + 4, dtype=f4), -(i % 5))
        a[0] = a[0] * 0.5 + 3 * (i % 5)
        assert np.array_equal(o[i], a)
    o = np.zeros(8, f4)
    m.launch("pointers", 1, 8, args=[o])
    assert np.array_equal(o, [0, 3, 4, 5, 8, 7, 12, 9])


def test_out_of_bounds(m):
    x = np.zeros(64, f4)
    with pytest.raises(PtxError, match=r"global memory access out of bounds.*arg0 \+ 256 of 256"):
        m.launch("oob_global", 1, 65, args=[x, i4(1)])
    with pytest.raises(PtxError, match="shared memory access out of bounds"):
        m.launch("oob_shared", 1, 32, args=[x])
    with pytest.raises(PtxError, match="shared memory access out of bounds"):
        m.launch("fft512<float, true>", 1, 256, 8191, [np.zeros(512, "c8"), np.zeros(512, "c8")])
    y = np.ones(64, f4)
    m.launch("uninit", 1, 32, args=[y])
    assert np.isnan(y[0])
    assert y[1] == 1
    z = np.zeros(64, f4)
    z.flags.writeable = False
    with pytest.raises(PtxError, match="read-only"):
        m.launch("oob_global", 1, 1, args=[z, i4(1)])


@pytest.mark.parametrize("order", [0, 1, 4])
def test_warp_operations(m, order):
    o = np.zeros((64, 10), i4)
    s = m.launch("warps", 1, 64, args=[o], order=order)
    for t in range(50):
        k, n = t & 31, 32 if t < 32 else 18
        b = (t + 4 if (k & 7) + 4 < 8 else t) if k < 16 else (t & ~15) + 1
        want = [
            t ^ 1,
            b,
            16 if t < 32 else 9,
            17,
            int(t >= 32),
            int(t < 32),
            sum(j % 4 == k % 4 for j in range(n)),
            t - 3 if k >= 3 else t,
            1,
            1,
        ]
        if t & 1:
            want[4] |= (16 if t < 32 else 9) << 8
        assert list(o[t]) == want, t
    assert s["barriers_after_exit"] == 4


def test_synchronization_errors(m):
    with pytest.raises(PtxError, match="deadlock"):
        m.launch("bad_mask", 1, 32, args=[np.zeros(32, f4)])


def test_coalescing(m):
    x, o = np.zeros(256 * 32, f4), np.zeros(256, f4)
    for stride, sectors in (1, 4), (2, 8), (8, 32), (32, 32):
        s = m.launch("strided", 1, 256, args=[x, o, i4(stride)])
        assert s["load_requests"] == 8
        assert s["load_sectors"] == 8 * sectors
        assert s["store_sectors"] == 8 * 4
    assert (
        m.launch("strided", 1, 256, args=[x[1:], o, 1])["load_sectors"] == 8 * 5
    )  # a view that starts off the sector grid
    m.launch("strided", 1, 256, args=[x, o, 1], stats=False)


def test_bank_conflicts(m):
    x, o = rng().standard_normal((32, 32)).astype(f4), np.zeros((32, 32), f4)
    for pitch, conflicts in (32, 32 * 31), (33, 0):
        s = m.launch(f"transpose<{pitch}>", 1, (32, 32), args=[x, o])
        assert np.array_equal(o, x.T)
        assert s["bank_conflicts"] == conflicts
        assert s["shared_requests"] == 64
    s = m.launch("shared4", 1, 64, args=[np.zeros((64, 4), f4), np.zeros((64, 4), f4)])
    assert s["bank_conflicts"] == 0
    assert s["shared_wavefronts"] == 16


def test_printf_and_assert(m, capfd):
    m.launch("asserts", 1, 1, args=[3])
    assert capfd.readouterr().out == f"n 3  1.50 text {2**40}\n"
    with pytest.raises(PtxError, match="assertion failed: n < 10"):
        m.launch("asserts", 1, 1, args=[12])


def test_integers(m):
    g = rng()
    x, y = g.integers(-(2**31), 2**31, 65).astype(i4), g.integers(-(2**63), 2**63, 65)
    y[:8] = [0, 1, -1, 2**63 - 1, -(2**63), 5, -7, 100]
    x[:6] = [0, 1, -1, 2**31 - 1, -(2**31), 7]
    o = np.zeros((64, 32), np.int64)
    m.launch("integers", 1, 64, args=[x, y, o])

    def s(v, n):
        return (v + 2 ** (n - 1)) % 2**n - 2 ** (n - 1)

    def quo(p, q):
        return abs(p) // abs(q) * (1 if (p < 0) == (q < 0) else -1)

    def m24(v):
        return s(v % 2**24, 24)

    for i in range(64):
        a, b, c, d = int(x[i]), int(x[i + 1]), int(y[i]), int(y[i + 1])
        ua, ub, uc, ud = a % 2**32, b % 2**32, c % 2**64, d % 2**64
        by = [(ua | ub << 32) >> 8 * k & 255 for k in range(8)]

        def ffs(v):
            return (v & -v).bit_length()

        a8, b8 = (
            [s(ua >> k & 255, 8) for k in (0, 8, 16, 24)],
            [s(ub >> k & 255, 8) for k in (0, 8, 16, 24)],
        )
        b1, d1 = b | 1, d | 1
        want = [
            a * b >> 32,
            ua * ub >> 32,
            c * d >> 64,
            uc * ud >> 64,
            int(f"{uc:064b}"[::-1], 2),
            ffs(ua),
            ffs(uc),
            by[4] | by[1] << 8 | by[2] << 16 | by[7] << 24,
            ((ub << 32 | ua) << 5) >> 32 & 0xFFFFFFFF,
            ub,
            quo(a, b1),
            a - quo(a, b1) * b1,
            ua // (b1 % 2**32),
            quo(c, d1),
            c - quo(c, d1) * d1,
            uc // (d1 % 2**64),
            abs(a - b) + 3,
            abs(ua - ub) + 3,
            (a + b) >> 1,
            s(m24(a) * m24(b), 32),
            a >> (b & 31),
            ua >> (b & 31),
            c >> (d & 63),
            uc << (d & 63),
            s(a % 65536, 16),
            a & 255,
            min(a, b),
            max(uc, ud),
            s(sum(p * q for p, q in zip(a8, b8, strict=False)) + 5, 32),
            int(c * 0.5),
            s(abs(a), 32),
            uc.bit_count(),
        ]
        unsigned32 = {1, 7, 8, 9, 12, 16, 17, 21}
        for k, w in enumerate(want):
            w = w % 2**32 if k in unsigned32 else s(w, 32) if k in (0, 10, 11, 18) else w
            assert (int(o[i, k]) - w) % 2**64 == 0 or (int(o[i, k]) - s(w, 32)) % 2**64 == 0, (
                i,
                k,
                int(o[i, k]),
                w,
            )


@pytest.mark.parametrize("arch", ["80", "90", "120"])
def test_sm80_features(arch):
    m = module(arch)
    x, o = rng().integers(-100, 100, 32).astype(i4), np.zeros(32, i4)
    m.launch("redux", 1, 32, args=[x, o])
    want = int(x.sum()) + 1000 * int(x.max()) + (int(np.bitwise_xor.reduce(x)) << 20)
    assert all((int(v) - want) % 2**32 == 0 for v in o)
    a, b = rng().standard_normal((64, 4)).astype(f4), np.zeros((64, 4), f4)
    m.launch("cpasync", 1, 64, args=[a, b])
    assert np.array_equal(a[::-1], b)
    p, q = torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.float16)
    m.launch("atomic2", 2, 32, args=[p, q])
    assert p.tolist() == [64, 128]
    assert q.tolist() == [32, 16]


def test_views_and_stale_reads(m80):
    x = np.arange(65, dtype=f4)
    s = m80.launch(
        "in_place", 1, 64, args=[x[:64], x]
    )  # overlapping arguments; __restrict__ is a lie here
    assert s["nc_after_write"] > 0
    assert x[64] == 0
    y = np.arange(128, dtype=f4)
    s = m80.launch("in_place", 1, 32, args=[y, y[64:]])
    assert s["nc_after_write"] == 0
    assert np.array_equal(y[65:97], y[:32])
    assert s["global_bytes_written"] == 128


def test_half_conversion_exhaustive_and_directed():
    x = rng().standard_normal(65536) * np.exp2(rng().integers(-30, 18, 65536))
    x[:30000] = (np.arange(30000, dtype="u2") + 100).view("f2").astype(f8) + (
        np.arange(30000) % 3 - 1
    ) * 2.0**-60  # next to values
    mid = np.arange(2000, 30000, dtype="u2").view("f2").astype(f8)
    x[30000:57999] = (mid[1:] + mid[:-1]) / 2  # ties
    o, h = np.zeros((65536, 4), "u2"), np.zeros(65536, f4)
    Module((HERE / "half_conversion.ptx").read_text()).launch("k", 256, 256, args=[x, o, h])
    with np.errstate(over="ignore"):
        assert np.array_equal(o[:, 0], x.astype("f2").view("u2"))
        rz = o[:, 1].copy().view("f2").astype(f8)
        assert np.all(np.abs(rz) <= np.abs(x))
        assert np.all(
            np.abs(
                np.nextafter(rz.astype("f2"), np.float16(np.inf) * np.sign(x).astype("f2")).astype(
                    f8
                )
            )
            > np.abs(x)
        )
    assert np.array_equal(h, np.arange(65536).astype("u2").view("f2").astype(f4), equal_nan=True)

    def bf(k):
        return (o[:, k].astype(u4) << 16).view(f4).astype(f8)

    assert np.all(np.abs(bf(2) - x) <= np.exp2(np.floor(np.log2(np.abs(x))) - 8))
    assert np.all(bf(3) >= x)
    assert np.all(bf(3) - x <= np.exp2(np.floor(np.log2(np.abs(x))) - 7))


def test_hand_written():
    text = (HERE / "hand_written.ptx").read_text()
    m, o = Module(text), np.zeros(1, u4)
    for n, want in (
        (0, 10),
        (1, 11),
        (2, ((0xFFFFFFFF + 0xFFFFFFFF) % 2**32 ^ 0xFF00FF00 ^ 0xF0F0F0F0 ^ 0xCCCCCCCC) + 256),
    ):
        m.launch("hand", 1, 1, args=[o, n])
        assert o[0] == want % 2**32, n
    with pytest.raises(PtxError, match=r"brx\.idx"):
        m.launch("hand", 1, 1, args=[o, 3])
    assert "wmma" in m.kernels["strange"].unsupported[0]
    assert not m.kernels["hand"].unsupported
    line = text[: text.index("wmma")].count("\n") + 1
    with pytest.raises(PtxError, match=f"line {line}: .*unsupported opcode wmma"):
        m.launch("strange", 1, 1, args=[o])
    m.launch("guarded", 1, 1, args=[0])
    with pytest.raises(PtxError, match="frobnicate"):
        m.launch("guarded", 1, 1, args=[1])


def test_launch_checks(m80):
    x = np.zeros(4, f4)
    for grid, block, shared, args, what in [
        (1, 512, 0, [x, x, i4(4)], "launch bounds"),
        (1, 2048, 0, [x, x, i4(4)], "invalid launch"),
        (1, 32, 200000, [x, x, i4(4)], "shared memory"),
        (1, 32, 0, [x, x], "arguments"),
        (1, 32, 0, [x, x, np.int64(4)], "bytes"),
        (1, 32, 0, [x[::2], x, i4(4)], "contiguous"),
        (1, 32, 0, [x, x, f4(4)], "float32 for"),
    ]:
        with pytest.raises(PtxError, match=what):
            m80.launch("block_sum<float>", grid, block, shared, args)
    with pytest.raises(PtxError, match="names"):
        m80.find("block_sum")
