#pragma once
// The second half of a sum over rows. The first half leaves one fp32 partial sum a block and column
// in the workspace; here a block of 32 x 32 threads takes 32 columns, so that the order of the sum
// never changes.

#include "kernels/cuda_lanes.cuh"

namespace imhotep::kernels::cuda {

template <class T>
struct ColumnTotals {
  const float* partial = nullptr;  // [outputs][count][columns]
  int count = 0;
  std::int64_t columns = 0;
  T* out[2] = {};  // of each output, in/out [columns]
  bool accumulate = true;
};

template <class T>
__global__ void __launch_bounds__(kWarp* kWarp) add_partials(ColumnTotals<T> totals) {
  __shared__ float sums[kWarp][kWarp + 1];
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kWarp + x;
  const float* partial = totals.partial + blockIdx.y * totals.count * totals.columns;
  float sum = 0;
  if (column < totals.columns) {
#pragma unroll 8
    for (int row = y; row < totals.count; row += kWarp)
      sum += partial[row * totals.columns + column];
  }
  sums[y][x] = sum;
  __syncthreads();
  const float total = warp_sum(sums[x][y]);
  const std::int64_t mine = static_cast<std::int64_t>(blockIdx.x) * kWarp + y;
  if (x != 0 || mine >= totals.columns) return;
  T* out = totals.out[blockIdx.y] + mine;
  *out = from_float<T>(totals.accumulate ? to_float(*out) + total : total);
}

template <class T>
void launch_add_partials(const Queue& queue, const ColumnTotals<T>& totals, unsigned outputs) {
  const dim3 grid(blocks_for(totals.columns, kWarp, 1 << 30), outputs);
  add_partials<T><<<grid, dim3(kWarp, kWarp), 0, stream_of(queue)>>>(totals);
  IMHOTEP_LAUNCHED("add_partials");
}

}  // namespace imhotep::kernels::cuda
