#pragma once
// Products of at most 128 bf16 rows, as the CUDA forms of the decode families launch them.

#include "core/base/few_rows.h"
#include "kernels/cuda_context.h"
#include "kernels/few_rows_body.cuh"
#include "kernels/queue.h"

namespace imhotep::kernels::cuda {

// Whether a product normalises its rows itself: they must fit in shared memory.
[[nodiscard]] constexpr bool fuses_norm(std::int64_t rows, std::int64_t k) {
  return rows <= 8 ? k <= 4096 : rows <= 16 && k <= 2048;
}

// c = epilogue(task.x * task.w^T), x layer-normalised first if task.gain is given. Where the
// product does not do that itself, the normalised rows go through queue.workspace. Async.
void run_few_rows(const Queue& queue, FewRowsTask task);
// n = norm(x), [rows, k]. Async.
void run_norm(const Queue& queue, const FewRowsTask& task, Bf16* n);

// Grid and shared memory of task with kTiles tiles and kGroups pieces, on so many multiprocessors;
// completes the task.
struct FewRowsGrid {
  int blocks = 0;
  std::size_t shared_bytes = 0;
};
template <int kTiles, int kGroups, bool kNorm>
[[nodiscard]] FewRowsGrid plan_few_rows(int multiprocessors, FewRowsTask& task) {
  using Shape = FewShape<kTiles, kGroups, kNorm ? 0 : kGroups>;
  task.chunks = static_cast<int>(ceil_div(task.k, kChunk));
  task.items = static_cast<int>(ceil_div(task.n, Shape::kCols));
  FewRowsGrid grid;
  grid.blocks = task.items < multiprocessors ? task.items : multiprocessors;
  const std::int64_t used = ceil_div(task.chunks, kFewWarps) * ceil_div(task.items, grid.blocks);
  task.slots = static_cast<int>(used < Shape::kDepth ? used : Shape::kDepth);
  grid.shared_bytes = static_cast<std::size_t>(
      FewRowsMemory<kTiles, kGroups, kNorm>(task.slots, task.chunks).bytes);
  return grid;
}

}  // namespace imhotep::kernels::cuda
