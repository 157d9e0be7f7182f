// Splits work among threads.
//
// With GCC the OpenMP runtime is the one that torch has loaded, so torch.set_num_threads counts
// here too. Results must not depend on how work is split.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/division.h"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace fvfast::cpu {

inline int max_threads() {
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return 1;
#endif
}

// Calls body(thread, begin, end) on `pieces` consecutive ranges that cover [0, count). A thread
// takes the next piece when it is done with one: beside other busy programs a thread may have to
// wait for a core, and then the others do its part. The body must not throw.
template <typename Body>
void parallel_pieces(int64_t count, int64_t pieces, const Body& body) {
  if (count <= 0) return;
#ifdef _OPENMP
  const int64_t wanted = std::min<int64_t>(max_threads(), pieces);
  if (wanted > 1 && !omp_in_parallel()) {
#pragma omp parallel for num_threads(static_cast<int>(wanted)) schedule(dynamic, 1)
    for (int64_t piece = 0; piece < pieces; ++piece) {
      body(int64_t{omp_get_thread_num()}, count * piece / pieces, count * (piece + 1) / pieces);
    }
    return;
  }
#endif
  (void)pieces;
  body(int64_t{0}, int64_t{0}, count);
}

// Pieces for each thread: enough that a late thread leaves little behind, and few enough that
// taking them costs nothing.
inline constexpr int64_t kPieces = 8;

// Calls body(begin, end) on consecutive ranges that cover [0, count), none much smaller than
// `grain`. The body must not throw.
template <typename Body>
void parallel_for(int64_t count, int64_t grain, const Body& body) {
  const int64_t most = std::max<int64_t>(1, count / grain);
  parallel_pieces(count, std::min<int64_t>(most, kPieces * max_threads()),
                  [&](int64_t, int64_t begin, int64_t end) { body(begin, end); });
}

}  // namespace fvfast::cpu
