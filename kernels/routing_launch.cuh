#pragma once
// How the kernels of routing follow each other: each is launched early (cuda_launch.cuh), lets the
// next one get ready at once, which takes longer than most of them work, and waits for all work
// before it.

#include "kernels/cuda_common.cuh"
#include "kernels/cuda_launch.cuh"

namespace imhotep::kernels::cuda {

// Every kernel here begins with it, before it touches device memory.
__device__ inline void wait_for_previous() {
  launch_dependents();
  wait_for_predecessors();
}

struct Grid {
  const char* name = "";
  std::int64_t blocks = 1;
  int threads = 256;
  std::size_t shared_bytes = 0;
};

template <class... Parameters, class... Arguments>
void launch_next(const Queue& queue, const Grid& grid, void (*kernel)(Parameters...),
                 const Arguments&... arguments) {
  launch_early(queue,
               {.grid = dim3(static_cast<unsigned>(grid.blocks)),
                .block = dim3(static_cast<unsigned>(grid.threads)),
                .shared_bytes = grid.shared_bytes,
                .name = grid.name},
               kernel, arguments...);
}

}  // namespace imhotep::kernels::cuda
