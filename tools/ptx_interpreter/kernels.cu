// Kernels for test_ptx.py. extern "C" keeps the names short.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cassert>
#include <cstdint>
#include <cstdio>
#define K extern "C" __global__ void

template <class T>
__global__ void __launch_bounds__(256) block_sum(const T* x, T* out, int n) {
  __shared__ T s[32];
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  T v = i < n ? x[i] : T(0);
  for (int d = 16; d; d >>= 1) v += __shfl_down_sync(0xffffffffu, v, d);
  if ((threadIdx.x & 31) == 0) s[threadIdx.x >> 5] = v;
  __syncthreads();
  if (threadIdx.x < 32) {
    v = threadIdx.x < (blockDim.x + 31) / 32 ? s[threadIdx.x] : T(0);
    for (int d = 16; d; d >>= 1) v += __shfl_down_sync(0xffffffffu, v, d);
    if (threadIdx.x == 0) out[blockIdx.x] = v;
  }
}
template __global__ void block_sum<float>(const float*, float*, int);
template __global__ void block_sum<double>(const double*, double*, int);

template <class T>
struct Cplx {
  T x, y;
};
__device__ void sincospi_(float a, float* s, float* c) { sincospif(a, s, c); }
__device__ void sincospi_(double a, double* s, double* c) { sincospi(a, s, c); }
// 512-point radix-2 Stockham FFT, 256 threads, ping-pong in dynamic shared memory
template <class T, bool SYNC>
__global__ void fft512(const Cplx<T>* in, Cplx<T>* out) {
  extern __shared__ __align__(16) unsigned char raw[];
  Cplx<T>* a = (Cplx<T>*)raw;
  Cplx<T>* b = a + 512;
  const int t = threadIdx.x;
  const Cplx<T>* p = in + blockIdx.x * 512;
  a[t] = p[t];
  a[t + 256] = p[t + 256];
  __syncthreads();
  for (int ns = 1; ns < 512; ns *= 2) {
    int k = t & (ns - 1);
    T s, c;
    sincospi_(-T(k) / ns, &s, &c);
    Cplx<T> u = a[t], v = a[t + 256], w = {v.x * c - v.y * s, v.x * s + v.y * c};
    int d = ((t - k) << 1) + k;
    b[d] = {u.x + w.x, u.y + w.y};
    b[d + ns] = {u.x - w.x, u.y - w.y};
    if (SYNC) __syncthreads();
    Cplx<T>* q = a;
    a = b;
    b = q;
  }
  Cplx<T>* o = out + blockIdx.x * 512;
  o[t] = a[t];
  o[t + 256] = a[t + 256];
}
template __global__ void fft512<float, true>(const Cplx<float>*, Cplx<float>*);
template __global__ void fft512<float, false>(const Cplx<float>*, Cplx<float>*);
template __global__ void fft512<double, true>(const Cplx<double>*, Cplx<double>*);

K philox(const uint4* ctr, const uint2* key, uint4* out) {
  int i = threadIdx.x;
  uint4 c = ctr[i];
  uint2 k = key[i];
#pragma unroll
  for (int r = 0; r < 10; ++r) {
    unsigned h0 = __umulhi(0xD2511F53u, c.x), l0 = 0xD2511F53u * c.x,
             h1 = __umulhi(0xCD9E8D57u, c.z), l1 = 0xCD9E8D57u * c.z;
    c = make_uint4(h1 ^ c.y ^ k.x, l1, h0 ^ c.w ^ k.y, l0);
    k.x += 0x9E3779B9u;
    k.y += 0xBB67AE85u;
  }
  out[i] = c;
}
K math(const float* x, float* o, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  float v = x[i], p = fabsf(v) + 1e-6f, s, c;
  sincospif(v, &s, &c);
  float r[] = {sinf(v),  cosf(v),       s,        c,       logf(p),   expf(v),   sqrtf(p),
               tanhf(v), powf(p, 1.7f), v / 3.1f, 1.f / p, rsqrtf(p), log1pf(p), erff(v),
               cbrtf(v), fmodf(v, 0.7f)};
  for (int k = 0; k < 16; ++k) o[i * 16 + k] = r[k];
}
K fast(const float* x, float* o, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  float v = x[i], p = fabsf(v) + 1e-6f, s, c;
  __sincosf(v, &s, &c);
  float r[] = {
      s, c, __logf(p), __expf(v), __fsqrt_rn(p), __fdividef(v, p + 1), __powf(p, 1.7f), exp2f(v)};
  for (int k = 0; k < 8; ++k) o[i * 8 + k] = r[k];
}
K math64(const double* x, double* o, int n) {
  int i = threadIdx.x;
  if (i >= n) return;
  double v = x[i], p = fabs(v) + 1e-9, r[] = {sin(v),      cos(v),  log(p), exp(v),  sqrt(p),
                                              pow(p, 1.7), v / 3.1, 1 / p,  tanh(v), rsqrt(p)};
  for (int k = 0; k < 10; ++k) o[i * 10 + k] = r[k];
}
K rounding(const float* a, const float* b, float* o) {
  int i = threadIdx.x;
  float x = a[i], y = b[i];
  float r[] = {__fadd_rz(x, y),    __fadd_ru(x, y), __fadd_rd(x, y),      __fmul_rz(x, y),
               __fmaf_ru(x, y, x), __fdiv_rd(x, y), __fsqrt_ru(fabsf(x)), __fmaf_rn(x, y, -x * y)};
  for (int k = 0; k < 8; ++k) o[i * 8 + k] = r[k];
}
K convert(const double* x, long long* o) {
  int i = threadIdx.x;
  double d = x[i];
  float f = (float)d;
  long long r[] = {(int)d,
                   (unsigned)d,
                   (long long)d,
                   (long long)(unsigned long long)d,
                   __float2int_rn(f),
                   __float2int_ru(f),
                   __float2int_rd(f),
                   (int)f,
                   (unsigned)f,
                   __float2ll_rn(f),
                   (long long)__float2ull_rz(f),
                   (signed char)(int)f,
                   (unsigned short)(int)f,
                   __float_as_int(rintf(f)),
                   __float_as_int(__double2float_rz(d)),
                   __float_as_int(floorf(f))};
  for (int k = 0; k < 16; ++k) o[i * 16 + k] = r[k];
}
K halves(const float* x, __half* h, __nv_bfloat16* b, float* back, __half2* h2, __nv_bfloat162* b2,
         int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  h[i] = __float2half(x[i]);
  b[i] = __float2bfloat16(x[i]);
  back[2 * i] = __half2float(h[i]);
  back[2 * i + 1] = __bfloat162float(b[i]);
  float y = x[(i + 1) % n];
  h2[i] =
      __hfma2(__floats2half2_rn(x[i], y), __floats2half2_rn(y, y), __floats2half2_rn(1.f, -x[i]));
  b2[i] = __hadd2(__floats2bfloat162_rn(x[i], y), __floats2bfloat162_rn(y, 3.f));
}
K copy4(const float4* __restrict__ x, float4* o, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) o[i] = __ldg(x + i);
}
K copyu4(const uint4* x, uint4* o, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) __stcs(o + i, x[i]);
}
K misalign(const float* x, float* o) { *(float4*)o = *(const float4*)(x + 1); }
K atomics(float* f, double* d, unsigned* u, int* mx, unsigned long long* l, const int* idx, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  atomicAdd(f + idx[i], 1.5f);
  atomicAdd(d + idx[i], 0.25 * i);
  atomicInc(u + idx[i], 6);
  atomicMax(mx, i);
  atomicAdd(l, (unsigned long long)i << 20);
  unsigned old, now = u[100];
  do {
    old = now;
    now = atomicCAS(u + 100, old, old + 3);
  } while (now != old);
  __shared__ float s;
  if (threadIdx.x == 0) s = 0;
  __syncthreads();
  atomicAdd(&s, 1.f);
  __syncthreads();
  if (threadIdx.x == 0) atomicAdd(f + 99, s);
}
__constant__ float table[8] = {1, 2, 4, 8, 16, 32, 64, 128};
__constant__ float unset[4];
__device__ int counter = 5;
__device__ float row[4] = {9, 8, 7, 6};
__device__ float* middle = row + 2;
K constants(float* o) {
  o[threadIdx.x] = table[threadIdx.x & 7] + unset[threadIdx.x & 3];
  if (threadIdx.x == 0) {
    atomicAdd(&counter, 7);
    o[0] += middle[0];
  }
}
struct Inner {
  short a;
  double b;
};
struct Args {
  float* out;
  int n;
  float w[6];
  Inner in;
  unsigned char tail[3];
};
K structs(Args a, int k) {
  int i = threadIdx.x;
  if (i < a.n) a.out[i] = a.w[(i + k) % 6] * a.in.a + (float)a.in.b + a.tail[i % 3];
}
K grid_constant(const __grid_constant__ Args a, int k) {
  int i = threadIdx.x;
  if (i < a.n) a.out[i] = a.w[(i * k) % 6];
}
K local_array(const int* x, int* o, int n) {
  int a[32];
  for (int i = 0; i < 32; ++i) a[i] = x[i] + threadIdx.x;
  for (int i = 0; i < n; ++i) a[x[i] & 31] += a[x[i + 1] & 31] * i;
  int s = 0;
  for (int i = 0; i < 32; ++i) s = s * 31 + a[i];
  o[threadIdx.x] = s;
}
K in_place(const float* __restrict__ x, float* __restrict__ o) {
  o[threadIdx.x + 1] = x[threadIdx.x];
}
K switch12(const int* x, int* o) {
  int i = threadIdx.x, v = x[i], r;
  switch (v) {
    case 0:
      r = v + 100;
      break;
    case 1:
      r = i * 3;
      break;
    case 2:
      r = i ^ 5;
      break;
    case 3:
      r = __popc(i);
      break;
    case 4:
      r = i / 3;
      break;
    case 5:
      r = i % 5;
      break;
    case 6:
      r = i << 3;
      break;
    case 7:
      r = -i;
      break;
    case 8:
      r = __clz(i);
      break;
    case 9:
      r = __brev(i);
      break;
    case 10:
      r = i * i;
      break;
    case 11:
      r = 77;
      break;
    default:
      r = -1;
  }
  o[i] = r;
}
__device__ __noinline__ float4 helper(float4 a, Inner b, int depth) {
  if (depth > 0) {
    float4 r = helper(make_float4(a.y, a.z, a.w, a.x), b, depth - 1);
    r.x += b.a;
    return r;
  }
  return make_float4(a.x * (float)b.b, a.y, a.z, a.w);
}
K noinline(float4* o, Inner b) {
  int i = threadIdx.x;
  o[i] = helper(make_float4(i, i + 1, i + 2, i + 3), b, i % 5);
}
typedef float (*Fun)(float);
__device__ float twice(float x) { return 2 * x; }
__device__ float plus2(float x) { return x + 2; }
__device__ Fun funs[2] = {twice, plus2};
K pointers(float* o) {
  int i = threadIdx.x;
  o[i] = funs[i & 1](i);
}
K oob_global(float* x, int n) { x[threadIdx.x] = n; }
K oob_shared(float* x) {
  __shared__ float s[32];
  s[threadIdx.x + 1] = 1;
  __syncthreads();
  x[threadIdx.x] = s[threadIdx.x];
}
K uninit(float* x) {
  __shared__ float s[32];
  if (threadIdx.x) s[threadIdx.x] = 1;
  __syncthreads();
  x[threadIdx.x] = s[threadIdx.x];
}
template <bool FIX>
__global__ void war(float* x) {
  __shared__ float s[64];
  int t = threadIdx.x;
  s[t] = x[t];
  __syncthreads();
  float a = s[(t + 1) & 63];
  if (FIX) __syncthreads();
  s[t] = a * 2;
  __syncthreads();
  x[t] = s[t];
}
template __global__ void war<true>(float*);
template __global__ void war<false>(float*);
K warps(int* o) {
  int t = threadIdx.x;
  if (t >= 50) return;
  int a = __shfl_xor_sync(0xffffffffu, t, 1);
  int b =
      (t & 31) < 16 ? __shfl_down_sync(0x0000ffffu, t, 4, 8) : __shfl_sync(0xffff0000u, t, 1, 16);
  int c = __popc(__ballot_sync(0xffffffffu, t & 1)), e = __any_sync(0xffffffffu, t == 40),
      f = __all_sync(0xffffffffu, t < 32);
  int g = __popc(__match_any_sync(0xffffffffu, t % 4)), u = __shfl_up_sync(0xffffffffu, t, 3);
  __syncthreads();
  int n = __syncthreads_count(t % 3 == 0), q = __syncthreads_or(t == 7),
      p = __syncthreads_and(t < 50);
  if (t & 1) {
    unsigned m = __activemask();
    __syncwarp(m);
    e |= __popc(m) << 8;
  }
  int r[] = {a, b, c, n, e, f, g, u, q, p};
  for (int k = 0; k < 10; ++k) o[t * 10 + k] = r[k];
}
K bad_mask(float* x) {
  float v = 1;
  if (threadIdx.x < 16) v += __shfl_xor_sync(0xffffffffu, v, 1);
  x[threadIdx.x] = v;
  if (threadIdx.x >= 16) __syncthreads();
}
K strided(const float* x, float* o, int stride) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  o[i] = x[i * stride];
}
template <int PITCH>
__global__ void transpose(const float* x, float* o) {
  __shared__ float s[32][PITCH];
  s[threadIdx.y][threadIdx.x] = x[threadIdx.y * 32 + threadIdx.x];
  __syncthreads();
  o[threadIdx.y * 32 + threadIdx.x] = s[threadIdx.x][threadIdx.y];
}
template __global__ void transpose<32>(const float*, float*);
template __global__ void transpose<33>(const float*, float*);
K shared4(const float4* x, float4* o) {
  __shared__ float4 s[64];
  s[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  o[threadIdx.x] = s[threadIdx.x ^ 1];
}
K asserts(int n) {
  printf("n %d %5.2f %s %llu\n", n, n * 0.5, "text", 1ull << 40);
  assert(n < 10);
}
K integers(const int* x, const long long* l, long long* o) {
  int i = threadIdx.x, a = x[i], b = x[i + 1];
  unsigned ua = a, ub = b;
  long long c = l[i], d = l[i + 1];
  unsigned long long uc = c, ud = d;
  long long r[] = {__mulhi(a, b),
                   __umulhi(ua, ub),
                   __mul64hi(c, d),
                   (long long)__umul64hi(uc, ud),
                   __brevll(c),
                   __ffs(a),
                   __ffsll(c),
                   __byte_perm(a, b, 0x7214),
                   __funnelshift_l(a, b, 37),
                   __funnelshift_rc(a, b, 40),
                   a / (b | 1),
                   a % (b | 1),
                   ua / (ub | 1),
                   c / (d | 1),
                   c % (d | 1),
                   uc / (ud | 1),
                   __sad(a, b, 3),
                   __usad(ua, ub, 3),
                   __hadd(a, b),
                   __mul24(a, b),
                   a >> (b & 31),
                   ua >> (ub & 31),
                   c >> (d & 63),
                   uc << (ud & 63),
                   (short)a,
                   (unsigned char)a,
                   min(a, b),
                   max(uc, ud),
                   __dp4a(a, b, 5),
                   (long long)((double)c * 0.5),
                   (int)(a < 0 ? 0u - a : a),
                   __popcll(c)};
  for (int k = 0; k < 32; ++k) o[i * 32 + k] = r[k];
}
#if __CUDA_ARCH__ >= 800
K redux(const int* x, int* o) {
  int v = x[threadIdx.x];
  o[threadIdx.x] = __reduce_add_sync(~0u, v) + 1000 * __reduce_max_sync(~0u, v) +
                   (int)(__reduce_xor_sync(~0u, (unsigned)v) << 20);
}
K cpasync(const float4* x, float4* o) {
  __shared__ float4 s[64];
  unsigned a = (unsigned)__cvta_generic_to_shared(s + threadIdx.x);
  asm volatile(
      "cp.async.cg.shared.global [%0], [%1], 16;\n cp.async.commit_group;\n cp.async.wait_group "
      "0;" ::"r"(a),
      "l"(x + threadIdx.x));
  __syncthreads();
  o[threadIdx.x] = s[63 - threadIdx.x];
}
K atomic2(__nv_bfloat162* b, __half2* h) {
  atomicAdd(b, __floats2bfloat162_rn(1.f, 2.f));
  atomicAdd(h, __floats2half2_rn(0.5f, 0.25f));
}
#endif
