// Splits work among threads.
//
// With GCC the OpenMP runtime is the one that torch has loaded, so torch.set_num_threads counts
// here too. Work must not depend on how it is split.
#pragma once

#include <algorithm>
#include <cstdint>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace fvfast::cpu {

inline int64_t divided_up(int64_t value, int64_t by) { return (value + by - 1) / by; }

inline int max_threads() {
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return 1;
#endif
}

// Calls body(begin, end) on consecutive ranges that cover [0, count), none much smaller than
// `grain`. The body must not throw.
template <typename Body>
void parallel_for(int64_t count, int64_t grain, const Body& body) {
  if (count <= 0) return;
#ifdef _OPENMP
  const int64_t wanted = std::min<int64_t>(max_threads(), std::max<int64_t>(1, count / grain));
  if (wanted > 1 && !omp_in_parallel()) {
#pragma omp parallel num_threads(static_cast<int>(wanted))
    {
      // The team may be smaller than what was asked for.
      const int64_t threads = omp_get_num_threads();
      const int64_t thread = omp_get_thread_num();
      const int64_t begin = count * thread / threads;
      const int64_t end = count * (thread + 1) / threads;
      if (begin < end) body(begin, end);
    }
    return;
  }
#endif
  (void)grain;
  body(int64_t{0}, count);
}

// Calls body(first, step) once for each thread, which then does the units first, first + step, ...
// below `count`: for work that is unevenly spread over the units, with neighbours alike.
template <typename Body>
void parallel_interleaved(int64_t count, const Body& body) {
  if (count <= 0) return;
#ifdef _OPENMP
  const int64_t wanted = std::min<int64_t>(max_threads(), count);
  if (wanted > 1 && !omp_in_parallel()) {
#pragma omp parallel num_threads(static_cast<int>(wanted))
    body(int64_t{omp_get_thread_num()}, int64_t{omp_get_num_threads()});
    return;
  }
#endif
  body(int64_t{0}, int64_t{1});
}

}  // namespace fvfast::cpu
