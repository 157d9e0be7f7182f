"""Clusters in the PTX interpreter: kernels by nvcc for sm_90, and forms written by hand."""

from functools import lru_cache

import numpy as np
import pytest

from ptx_interpreter import Module, PtxError, compile_ptx, find_nvcc

BLOCKS, THREADS = 4, 64
ORDERS = [0, 1, 5, 6]
SOURCE = r"""
__device__ void sync_cluster() {
  __cluster_barrier_arrive();
  __cluster_barrier_wait();
}

// Where `first` and `last` say so, there are barriers of the cluster before and after the read.
template <bool first, bool last, int step>
__global__ void pass_on(float* values) {
  __shared__ float shared[64];
  const unsigned rank = __clusterRelativeBlockRank(), blocks = __clusterSizeInBlocks();
  float& value = values[blockIdx.x * 64 + threadIdx.x];
  shared[threadIdx.x] = -1;
  sync_cluster();
  shared[threadIdx.x] = value;
  if (first) sync_cluster();
  __syncthreads();
  const void* other = __cluster_map_shared_rank(shared, step == 9 ? 9 : (rank + step) % blocks);
  value = static_cast<const float*>(other)[63 - threadIdx.x];
  if (last) sync_cluster();
}
template __global__ void pass_on<true, true, 1>(float*);
template __global__ void pass_on<true, true, 2>(float*);
template __global__ void pass_on<false, true, 1>(float*);
template __global__ void pass_on<true, false, 1>(float*);
template __global__ void pass_on<true, true, 9>(float*);

__global__ void too_early(float* values) {
  __shared__ float shared[64];
  shared[threadIdx.x] = 0;
  const unsigned next = (__clusterRelativeBlockRank() + 1) % __clusterSizeInBlocks();
  values[0] = static_cast<const float*>(__cluster_map_shared_rank(shared, next))[threadIdx.x];
  sync_cluster();
}

__global__ void two_halves(float* values) {
  __shared__ float shared[64];
  const unsigned t = threadIdx.x;
  float& value = values[blockIdx.x * 64 + t];
  float sum = 0;
  shared[t] = value;
  for (unsigned round = 1; round < 4; ++round) {
    sync_cluster();
    const unsigned other = (__clusterRelativeBlockRank() + round) % 4;
    const float got = static_cast<const float*>(__cluster_map_shared_rank(shared, other))[t];
    __cluster_barrier_arrive();
    sum += got;
    __cluster_barrier_wait();
    shared[t] += 1;
  }
  value = sum;
}

__global__ void places(int* out) {
  const dim3 size = __clusterDim(), index = __clusterRelativeBlockIdx(), which = __clusterIdx();
  const unsigned rank = (index.z * size.y + index.y) * size.x + index.x;
  const bool right = rank == __clusterRelativeBlockRank() && size.x == 2 && size.y == 1 &&
                     size.z == 2 && which.x * 2 + index.x == blockIdx.x &&
                     which.z * 2 + index.z == blockIdx.z && which.y == blockIdx.y &&
                     __clusterSizeInBlocks() == 4;
  out[(blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x] = right ? rank : -1;
}
"""
# Addresses of 32 bits, a store and an atomic to another block, and both forms of a barrier.
BY_HAND = """
.version 8.0
.target sm_90
.address_size 64
.visible .entry remote(.param .u64 out) {
  .reg .b32 %r<12>;
  .reg .b64 %rd<4>;
  .shared .align 4 .b32 cell;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, %cluster_ctarank;
  mov.u32 %r2, %cluster_nctarank;
  mov.u32 %r3, 0;
  st.shared.u32 [cell], %r3;
  barrier.cluster.arrive.release.aligned;
  barrier.cluster.wait.acquire.aligned;
  add.u32 %r4, %r1, 1;
  rem.u32 %r4, %r4, %r2;
  mov.u32 %r5, cell;
  mapa.shared::cluster.u32 %r6, %r5, %r4;
  add.u32 %r7, %r1, 10;
  st.shared::cluster.u32 [%r6], %r7;
  barrier.cluster.arrive;
  barrier.cluster.wait;
  atom.shared::cluster.add.u32 %r8, [%r6], 100;
  getctarank.shared::cluster.u32 %r9, %r6;
  barrier.cluster.arrive.relaxed;
  barrier.cluster.wait;
  ld.shared.u32 %r10, [cell];
  mad.lo.u32 %r10, %r9, 1000, %r10;
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd1, %rd1, %rd2;
  st.global.u32 [%rd1], %r10;
  ret;
}
.visible .entry own_space(.param .u64 out) {
  .reg .b32 %r<4>;
  .shared .align 4 .b32 cell;
  barrier.cluster.arrive;
  barrier.cluster.wait;
  mov.u32 %r1, cell;
  mapa.shared::cluster.u32 %r2, %r1, 1;
  ld.shared::cta.u32 %r3, [%r2];
  barrier.cluster.arrive;
  barrier.cluster.wait;
  ret;
}
.visible .entry twice(.param .u64 out) {
  barrier.cluster.arrive;
  barrier.cluster.arrive;
  ret;
}
.visible .entry wait_only(.param .u64 out) {
  barrier.cluster.wait;
  ret;
}
.visible .entry one_stays_away(.param .u64 out) {
  .reg .pred %p;
  .reg .b32 %r<2>;
  mov.u32 %r1, %cluster_ctarank;
  setp.eq.u32 %p, %r1, 1;
  @%p bar.sync 1, 64;
  barrier.cluster.arrive;
  barrier.cluster.wait;
  ret;
}
"""


@lru_cache(None)
def compiled():
    if find_nvcc() is None:
        pytest.skip("needs nvcc, which compiles the kernels to PTX")
    return Module(compile_ptx(SOURCE, "90"))


@lru_cache(None)
def by_hand():
    return Module(BY_HAND)


def passed_on(kernel, order):
    """What the kernel makes of 0, 1, 2, ... in two clusters."""
    values = np.arange(2 * BLOCKS * THREADS, dtype=np.float32)
    statistics = compiled().launch(
        kernel, 2 * BLOCKS, THREADS, args=[values], cluster=BLOCKS, order=order
    )
    return values.reshape(2, BLOCKS, THREADS), statistics


GIVEN = np.arange(2 * BLOCKS * THREADS, dtype=np.float32).reshape(2, BLOCKS, THREADS)


def test_everything_decodes():
    for module in (compiled(), by_hand()):
        assert not any(kernel.unsupported for kernel in module.kernels.values())


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("step", [1, 2])
def test_blocks_read_one_another(order, step):
    values, statistics = passed_on(f"pass_on<true, true, {step}>", order)
    assert np.array_equal(values, np.roll(GIVEN, -step, axis=1)[..., ::-1])
    assert statistics["cluster_barriers"] == 2 * 3


@pytest.mark.parametrize("order", ORDERS)
def test_barriers_in_two_halves(order):
    values, _ = passed_on("two_halves", order)
    others = sum(np.roll(GIVEN, -k, axis=1) + k - 1 for k in (1, 2, 3))
    assert np.array_equal(values, others)


def test_a_missing_barrier_shows():
    right = np.roll(GIVEN, -1, axis=1)[..., ::-1]
    results = [passed_on("pass_on<false, true, 1>", order)[0] for order in ORDERS]
    assert not all(np.array_equal(values, right) for values in results)
    with pytest.raises(PtxError, match="of a block that may not have begun"):
        passed_on("too_early", 0)


def test_a_block_that_ends_too_early_shows():
    ended = 0
    for order in ORDERS:
        try:
            passed_on("pass_on<true, false, 1>", order)
        except PtxError as error:
            assert "shared memory of a block that has ended" in str(error)  # noqa: PT017
            ended += 1
    assert ended


def test_a_rank_beyond_the_cluster():
    with pytest.raises(PtxError, match="the cluster has not got this rank"):
        passed_on("pass_on<true, true, 9>", 0)


def test_places():
    out = np.zeros((2, 3, 4), np.int32)
    compiled().launch("places", (4, 3, 2), 1, args=[out], cluster=(2, 1, 2))
    assert np.array_equal(out, [[[0, 1, 0, 1]] * 3, [[2, 3, 2, 3]] * 3])


@pytest.mark.parametrize("order", ORDERS)
def test_forms_that_nvcc_does_not_make(order):
    out = np.zeros(3, np.uint32)
    by_hand().launch("remote", 3, 1, args=[out], cluster=3, order=order)
    assert out.tolist() == [(rank + 1) % 3 * 1000 + 110 + (rank - 1) % 3 for rank in range(3)]


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("own_space", "shared::cta access to shared memory of another block"),
        ("twice", "arrives again before it has waited"),
        ("wait_only", "waits without having arrived"),
        ("one_stays_away", "deadlock: not all threads arrive at this barrier"),
    ],
)
def test_faults(kernel, message):
    with pytest.raises(PtxError, match=message):
        by_hand().launch(kernel, 2, 32, args=[np.zeros(1)], cluster=2)


def test_launches_are_checked():
    out = np.zeros(1)
    for cluster, message in ((3, "no whole number"), (16, "1 to 8 blocks"), ((2, 0), "1 to 8")):
        with pytest.raises(PtxError, match=message):
            by_hand().launch("wait_only", 16, 1, args=[out], cluster=cluster)
    older = Module(BY_HAND.replace("sm_90", "sm_80"))
    with pytest.raises(PtxError, match="sm_80 has no clusters"):
        older.launch("wait_only", 2, 1, args=[out], cluster=2)


def test_the_longest_block_and_thread():
    values = np.zeros(2 * BLOCKS * THREADS, np.float32)
    statistics = compiled().launch("two_halves", 2 * BLOCKS, THREADS, args=[values], cluster=BLOCKS)
    assert statistics["longest_block"] == statistics["instructions"] / (2 * BLOCKS)
    assert statistics["longest_thread"] == statistics["longest_block"] / THREADS
