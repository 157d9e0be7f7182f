// Kernels without a fault: right in every order of threads, and clean under every sanitizer.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <complex>
#include <cstdint>

#include "cases.h"

constexpr unsigned kFull = 0xffffffffu;

__global__ void reduce_kernel(const float* values, float* sums, int count) {
  __shared__ float of_warps[4];
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  float sum = i < count ? values[i] : 0.0f;
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    sum += __shfl_down_sync(kFull, sum, distance);
  }
  if (threadIdx.x % warpSize == 0) of_warps[threadIdx.x / warpSize] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    sums[blockIdx.x] = of_warps[0] + of_warps[1] + of_warps[2] + of_warps[3];
  }
}

CASE(reduces_by_shuffles) {
  constexpr int kBlocks = 3, kThreads = 128, kCount = kBlocks * kThreads - 5;
  DeviceArray<float> values(kCount), sums(kBlocks);
  for (int i = 0; i < kCount; ++i) values[i] = scrambled(i);
  reduce_kernel<<<kBlocks, kThreads>>>(values.get(), sums.get(), kCount);
  int wrong = cudaGetLastError() != cudaSuccess;
  for (int block = 0; block < kBlocks; ++block) {
    float expected = 0;
    for (int i = block * kThreads; i < std::min(kCount, (block + 1) * kThreads); ++i) {
      expected += values[i];
    }
    wrong += sums[block] != expected;
  }
  return wrong;
}

// Radix 2 without bit reversal, between two halves of the dynamic shared memory.
__global__ void __launch_bounds__(64, 2) stockham_kernel(const double2* in, double2* out) {
  extern __shared__ __align__(16) double2 buffer[];
  constexpr unsigned kHalf = 64;
  double2 *from = buffer, *to = buffer + 2 * kHalf;
  const unsigned t = threadIdx.x;
  in += blockIdx.x * 2 * kHalf;
  out += blockIdx.x * 2 * kHalf;
  from[t] = in[t];
  from[t + kHalf] = in[t + kHalf];
  __syncthreads();
  for (unsigned length = 1; length < 2 * kHalf; length *= 2) {
    const unsigned k = t % length;
    double sine, cosine;
    sincospi(-static_cast<double>(k) / length, &sine, &cosine);
    const double2 a = from[t], b = from[t + kHalf];
    const double2 turned = make_double2(b.x * cosine - b.y * sine, b.x * sine + b.y * cosine);
    const unsigned target = (t - k) * 2 + k;
    to[target] = make_double2(a.x + turned.x, a.y + turned.y);
    to[target + length] = make_double2(a.x - turned.x, a.y - turned.y);
    __syncthreads();
    double2* const swapped = from;
    from = to;
    to = swapped;
  }
  out[t] = from[t];
  out[t + kHalf] = from[t + kHalf];
}

CASE(transforms_by_stockham) {
  constexpr int kLength = 128, kBlocks = 2;
  DeviceArray<double2> in(kBlocks * kLength), out(kBlocks * kLength);
  for (int i = 0; i < kBlocks * kLength; ++i) {
    in[i] = make_double2(scrambled(2 * i), scrambled(2 * i + 1));
  }
  stockham_kernel<<<kBlocks, kLength / 2, 2 * kLength * sizeof(double2)>>>(in.get(), out.get());
  int wrong = 0;
  for (int block = 0; block < kBlocks; ++block) {
    for (int k = 0; k < kLength; ++k) {
      std::complex<double> expected = 0;
      for (int i = 0; i < kLength; ++i) {
        const double2 value = in[block * kLength + i];
        expected += std::complex<double>(value.x, value.y) *
                    std::polar(1.0, -2 * M_PI * (i * k % kLength) / kLength);
      }
      const double2 got = out[block * kLength + k];
      // The direct sum of 128 products of numbers below 32 is good to 128 * 128 * 32 * 2^-52.
      wrong += !(std::abs(expected - std::complex<double>(got.x, got.y)) < 1.2e-10);
    }
  }
  return wrong;
}

template <typename T, int kSize>
__global__ void transpose_kernel(const T* in, T* out) {
  __shared__ T tile[kSize][kSize + 1], corner;
  tile[threadIdx.y][threadIdx.x] = in[threadIdx.y * kSize + threadIdx.x];
  if (threadIdx.x == 0 && threadIdx.y == 0) corner = 0;
  __syncthreads();
  out[threadIdx.y * kSize + threadIdx.x] = tile[threadIdx.x][threadIdx.y] + corner;
}

template <typename T, int kSize>
int count_wrong_in_transpose() {
  DeviceArray<T> in(kSize * kSize), out(kSize * kSize);
  for (int i = 0; i < kSize * kSize; ++i) in[i] = scrambled(i);
  transpose_kernel<T, (kSize > 1 ? kSize : 1)>
      <<<dim3(1, 1, 1), dim3(kSize, kSize)>>>(in.get(), out.get());
  int wrong = 0;
  for (int i = 0; i < kSize * kSize; ++i) {
    wrong += out[i] != in[i % kSize * kSize + i / kSize];
  }
  return wrong;
}

CASE(shares_arrays_in_templates) {
  return count_wrong_in_transpose<float, 8>() + count_wrong_in_transpose<double, 8>() +
         count_wrong_in_transpose<float, 16>();
}

// Lanes that have ended are excused, halves of a warp meet apart, and segments are narrower.
__global__ void partial_warps_kernel(int* out) {
  const int t = threadIdx.x;
  if (t >= 50) return;
  const int neighbor = __shfl_xor_sync(kFull, t, 1);
  const int segment =
      t % 32 < 16 ? __shfl_down_sync(0x0000ffffu, t, 4, 8) : __shfl_sync(0xffff0000u, t, 1, 16);
  const int odd = __popc(__ballot_sync(kFull, t & 1));
  __syncthreads();
  const int thirds = __syncthreads_count(t % 3 == 0);
  const int logic = __all_sync(kFull, t < 50) + 2 * __any_sync(kFull, t == 33) +
                    4 * __syncthreads_or(t == 49) + 8 * __syncthreads_and(t != 49);
  const int above = __shfl_up_sync(kFull, t, 2, 4);
  int* row = out + 6 * t;
  row[0] = neighbor;
  row[1] = segment;
  row[2] = odd;
  row[3] = thirds;
  row[4] = logic;
  row[5] = above;
}

CASE(meets_in_partial_warps) {
  DeviceArray<int> out(6 * 64);
  partial_warps_kernel<<<1, 64>>>(out.get());
  int wrong = 0;
  for (int t = 0; t < 50; ++t) {
    const int lane = t % 32;
    const int segment = lane < 16 ? (lane % 8 + 4 < 8 ? t + 4 : t) : t - lane % 16 + 1;
    const int expected[6] = {t ^ 1, segment,        t < 32 ? 16 : 9,
                             17,    t < 32 ? 5 : 7, t % 4 < 2 ? t : t - 2};
    for (int i = 0; i < 6; ++i) wrong += out[6 * t + i] != expected[i];
  }
  for (int i = 6 * 50; i < 6 * 64; ++i) wrong += out[i] != -1;  // nothing was written
  return wrong;
}

struct Pair {
  float first;
  short second;
};

__global__ void shuffle_types_kernel(double* doubles, long long* integers, float* pairs) {
  const int t = threadIdx.x;
  doubles[t] = __shfl_xor_sync(kFull, 1.0 / (t + 1), 31);
  integers[t] = __shfl_sync(kFull, (1LL << 40) + t, 5);
  const Pair pair = __shfl_up_sync(kFull, Pair{t + 0.5f, static_cast<short>(-t)}, 1u);
  pairs[t] = pair.first + pair.second;
}

CASE(shuffles_any_type) {
  DeviceArray<double> doubles(32);
  DeviceArray<long long> integers(32);
  DeviceArray<float> pairs(32);
  shuffle_types_kernel<<<1, 32>>>(doubles.get(), integers.get(), pairs.get());
  int wrong = 0;
  for (int t = 0; t < 32; ++t) {
    wrong += doubles[t] != 1.0 / ((t ^ 31) + 1);
    wrong += integers[t] != (1LL << 40) + 5;
    wrong += pairs[t] != 0.5f;
  }
  return wrong;
}

// Lanes of one half shuffle among themselves, while the other half waits for the whole warp.
__global__ void nested_masks_kernel(int* out) {
  int value = threadIdx.x;
  if (threadIdx.x < 16) {
    for (int i = 0; i < 3; ++i) value = __shfl_xor_sync(0x0000ffffu, value, 1 << i);
  }
  __syncwarp();
  out[threadIdx.x] = __shfl_sync(kFull, value, 0);
}

CASE(meets_in_masks_within_masks) {
  DeviceArray<int> out(32);
  nested_masks_kernel<<<1, 32>>>(out.get());
  int wrong = 0;
  for (int t = 0; t < 32; ++t) wrong += out[t] != (1 ^ 2 ^ 4);
  return wrong;
}

__global__ void exchange_kernel(const float* in, float* out) {
  __shared__ float values[64];
  values[threadIdx.x] = in[threadIdx.x];
  __syncwarp();
  out[blockIdx.x * 64 + threadIdx.x] = values[threadIdx.x ^ 1];
}

CASE(exchanges_within_a_warp) {
  DeviceArray<float> in(64), out(4 * 64);
  for (int i = 0; i < 64; ++i) in[i] = i;
  exchange_kernel<<<4, 64>>>(in.get(), out.get());
  int wrong = 0;
  for (int i = 0; i < 4 * 64; ++i) wrong += out[i] != (i % 64 ^ 1);
  return wrong;
}

__global__ void histogram_kernel(int* counts, float* sum, double* largest,
                                 unsigned long long* claimed) {
  __shared__ int of_block[8];
  if (threadIdx.x < 8) of_block[threadIdx.x] = 0;
  __syncthreads();
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(&of_block[i % 8], 1);
  atomicAdd(sum, 0.5f);
  atomicMax(largest, static_cast<double>(scrambled(i)));
  atomicCAS(claimed, 0ull, i + 1ull);
  __syncthreads();
  if (threadIdx.x < 8) atomicAdd(&counts[threadIdx.x], of_block[threadIdx.x]);
}

CASE(adds_atomically) {
  constexpr int kBlocks = 3, kThreads = 64;
  DeviceArray<int> counts(8);
  DeviceArray<float> sum(1);
  DeviceArray<double> largest(1);
  DeviceArray<unsigned long long> claimed(1);
  cudaMemset(counts.get(), 0, 8 * sizeof(int));
  cudaMemset(sum.get(), 0, sizeof(float));
  largest[0] = -100;
  claimed[0] = 0;
  histogram_kernel<<<kBlocks, kThreads>>>(counts.get(), sum.get(), largest.get(), claimed.get());
  int wrong = sum[0] != kBlocks * kThreads * 0.5f;
  for (int i = 0; i < 8; ++i) wrong += counts[i] != kBlocks * kThreads / 8;
  int expected = -100;
  for (int i = 0; i < kBlocks * kThreads; ++i) expected = std::max(expected, scrambled(i));
  wrong += largest[0] != expected;
  wrong += claimed[0] < 1 || claimed[0] > kBlocks * kThreads;
  return wrong;
}

__global__ void halves_kernel(const float* in, __nv_bfloat16* bfloats, __half* halves) {
  const int t = threadIdx.x;
  bfloats[t] = __float2bfloat16_rn(in[t]);
  halves[t] = __float2half_rn(in[t]);
}

CASE(converts_to_halves) {
  DeviceArray<float> in(5);
  DeviceArray<__nv_bfloat16> bfloats(5);
  DeviceArray<__half> halves(5);
  // 1 + 2^-8 and 1 + 2^-11 lie half-way between two numbers, and go to the even one.
  const float values[5] = {1.0f, 1.00390625f, 1.00048828125f, -65504.0f, 3.14159265f};
  const float of_bfloats[5] = {1.0f, 1.0f, 1.0f, -65536.0f, 3.140625f};
  const float of_halves[5] = {1.0f, 1.00390625f, 1.0f, -65504.0f, 3.140625f};
  for (int i = 0; i < 5; ++i) in[i] = values[i];
  halves_kernel<<<1, 5>>>(in.get(), bfloats.get(), halves.get());
  int wrong = 0;
  for (int i = 0; i < 5; ++i) {
    wrong += __bfloat162float(bfloats[i]) != of_bfloats[i];
    wrong += __half2float(halves[i]) != of_halves[i];
  }
  return wrong;
}

__constant__ unsigned philox_keys[2] = {0, 0};

// Philox4x32-10 of the counter 0 and the key 0: a published test vector.
__global__ void philox_kernel(uint4* out) {
  unsigned key0 = philox_keys[0], key1 = philox_keys[1];
  uint4 c = make_uint4(0, 0, 0, 0);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const unsigned high0 = __umulhi(0xD2511F53u, c.x), low0 = 0xD2511F53u * c.x;
    const unsigned high1 = __umulhi(0xCD9E8D57u, c.z), low1 = 0xCD9E8D57u * c.z;
    c = make_uint4(high1 ^ c.y ^ key0, low1, high0 ^ c.w ^ key1, low0);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  *out = c;
}

CASE(multiplies_integers) {
  DeviceArray<uint4> out(1);
  philox_kernel<<<1, 1>>>(out.get());
  return (out[0].x != 0x6627e8d5u) + (out[0].y != 0xe169c58du) + (out[0].z != 0xbc57ac4cu) +
         (out[0].w != 0x9b00dbd8u);
}

__global__ void intrinsics_kernel(const int* in, long long* out) {
  const unsigned x = in[0];  // 0x00f01234
  out[0] = __popc(x);
  out[1] = __clz(x);
  out[2] = __ffs(x);
  out[3] = __brev(x);
  out[4] = __umul64hi(1ull << 63, 6);
  out[5] = __mulhi(-(1 << 30), 8);
  out[6] = __funnelshift_l(0x80000000u, 1, 1);
  out[7] = __float_as_int(__int_as_float(0x40490fdb));
  out[8] = __double_as_longlong(__hiloint2double(0x3ff00000, 5));
  out[9] = min(-1, 5) + max(2.5f, NAN) * 2 + min(7ll, 3);
  out[10] = __ldg(in) == __ldcs(in) && __ldcg(in) == in[0];
  __stcs(out + 11, -5);
  __stcg(out + 12, 1ll << 40);
  out[13] = __float2int_rn(2.5f) + 10 * __float2int_rz(-7.9f) + __float2int_rn(NAN);
  out[14] = __float2int_rn(1e20f);
  out[15] = __clz(0) + __ffs(0);
}

CASE(has_integer_intrinsics) {
  DeviceArray<int> in(1);
  DeviceArray<long long> out(16);
  in[0] = 0x00f01234;
  intrinsics_kernel<<<1, 1>>>(in.get(), out.get());
  const long long expected[16] = {
      9, 8, 3,  0x2c480f00, 3,   -2,         3, 0x40490fdb, 0x3ff0000000000005,
      7, 1, -5, 1ll << 40,  -68, 2147483647, 32};
  int wrong = 0;
  for (int i = 0; i < 16; ++i) wrong += out[i] != expected[i];
  return wrong;
}

__global__ void math_kernel(double* out) {
  double s, c;
  sincospi(0.5, &s, &c);
  out[0] = s - 1 + c;
  sincospi(-1.75, &s, &c);
  out[1] = s - c;
  float sf, cf;
  sincospif(1e6f + 0.5f, &sf, &cf);
  out[2] = sf - 1 + cf;
  sincosf(0.0f, &sf, &cf);
  out[3] = sf + cf - 1;
  // The product of 1 + 2^-12 with itself is no float: the fused one keeps its last bit.
  const float a = 1.000244140625f;
  out[4] = __fmaf_rn(a, a, -__fmul_rn(a, a)) - 0x1p-24;
  out[5] = fma(0.1, 10.0, -1.0) - 0x1p-54;
  out[6] = rsqrtf(4.0f) - __fdiv_rn(1.0f, __fsqrt_rn(4.0f));
  out[7] = __fadd_rn(1.0f, 0x1p-24f) - __fsub_rn(1.0f, 0x1p-26f);
  out[8] = cospi(2.5) + sinpif(3.0f) + (rsqrt(16.0) - 0.25);
  out[9] = __saturatef(NAN) + __saturatef(-3.0f) + __saturatef(2.0f) - 1;
  out[10] = __expf(0.0f) - __cosf(0.0f) + __logf(1.0f) + __fdividef(0, 5);
}

CASE(has_mathematical_functions) {
  DeviceArray<double> out(11);
  math_kernel<<<1, 1>>>(out.get());
  int wrong = 0;
  // All are exactly 0, but for the sine and the cosine of -1.75 pi, which both round.
  for (int i = 0; i < 11; ++i) wrong += !(std::abs(out[i]) <= (i == 1 ? 0x1p-52 : 0));
  return wrong;
}

__global__ void index_kernel(int* out) {
  const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] = block * 1000 + thread;
}

CASE(counts_threads_in_three_dimensions) {
  const dim3 grid(2, 3, 2), block(3, 2, 4);
  DeviceArray<int> out(12 * 24);
  index_kernel<<<grid, block>>>(out.get());
  int wrong = 0;
  for (int i = 0; i < 12 * 24; ++i) wrong += out[i] != i / 24 * 1000 + i % 24;
  return wrong;
}

__global__ void sum_twice_kernel(const float* in, float* out) {
  const float first = block_sum(in[threadIdx.x]);
  out[threadIdx.x] = first + block_sum(1.0f);
}

CASE(shares_functions_of_headers) {
  DeviceArray<float> in(64), out(64);
  float expected = 64;
  for (int i = 0; i < 64; ++i) expected += in[i] = scrambled(i);
  sum_twice_kernel<<<1, 64>>>(in.get(), out.get());
  int wrong = 0;
  for (int i = 0; i < 64; ++i) wrong += out[i] != expected;
  return wrong;
}

__global__ void fill_dynamic_kernel(char* last) {
  extern __shared__ char bytes[];
  bytes[100 * 1024 - 1] = 7;
  *last = bytes[100 * 1024 - 1];
}

__global__ void nothing_kernel() {}

CASE(launches_within_the_limits) {
  DeviceArray<char> last(1);
  int limit = 0, wrong = 0;
  const auto attribute = cudaFuncAttributeMaxDynamicSharedMemorySize;
  wrong += cudaFuncSetAttribute(fill_dynamic_kernel, attribute, 0) != cudaSuccess;
  cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0);
  wrong += limit != 227 * 1024;
  fill_dynamic_kernel<<<1, 1, 100 * 1024>>>(last.get());
  wrong += cudaGetLastError() != cudaErrorInvalidValue;
  wrong += cudaFuncSetAttribute(fill_dynamic_kernel, attribute, limit + 1) != cudaErrorInvalidValue;
  wrong += cudaGetLastError() != cudaErrorInvalidValue || cudaGetLastError() != cudaSuccess;
  wrong += cudaFuncSetAttribute(fill_dynamic_kernel, attribute, 100 * 1024) != cudaSuccess;
  fill_dynamic_kernel<<<1, 1, 100 * 1024>>>(last.get());
  wrong += cudaGetLastError() != cudaSuccess || last[0] != 7;
  nothing_kernel<<<1, 1025>>>();
  wrong += cudaPeekAtLastError() != cudaErrorInvalidConfiguration;
  wrong += cudaGetLastError() != cudaErrorInvalidConfiguration;
  nothing_kernel<<<dim3(1, 65536), 1>>>();
  wrong += cudaGetLastError() != cudaErrorInvalidConfiguration;
  nothing_kernel<<<0, 1>>>();
  wrong += cudaGetLastError() != cudaErrorInvalidConfiguration;
  wrong += std::string(cudaGetErrorString(cudaErrorInvalidValue)) != "invalid argument";
  return wrong;
}

CASE(has_one_device) {
  int count = 0, device = -1, wrong = 0;
  wrong += cudaGetDeviceCount(&count) != cudaSuccess || count != 1;
  wrong += cudaGetDevice(&device) != cudaSuccess || device != 0;
  wrong += cudaSetDevice(0) != cudaSuccess;
  wrong += cudaSetDevice(1) != cudaErrorInvalidDevice;
  wrong += cudaGetLastError() != cudaErrorInvalidDevice;
  wrong += std::string(cudaGetErrorName(cudaErrorInvalidDevice)) != "cudaErrorInvalidDevice";
  return wrong;
}

CASE(launches_by_configuration) {
  DeviceArray<int> out(2 * 3);
  cudaLaunchConfig_t configuration = {};
  configuration.gridDim = dim3(2);
  configuration.blockDim = dim3(3);
  int wrong = cudaLaunchKernelEx(&configuration, index_kernel, out.get()) != cudaSuccess;
  for (int i = 0; i < 6; ++i) wrong += out[i] != i / 3 * 1000 + i % 3;
  return wrong;
}
