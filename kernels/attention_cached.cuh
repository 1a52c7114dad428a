#pragma once
// What the kernels of attention over pages share: their arguments, addresses of positions, and the
// rule that divides the rows of a call between them.

#include "kernels/cuda_common.cuh"

namespace imhotep::kernels::cuda::paged {

// Rows of one sequence that stand side by side inside an aligned group of kTileRows rows are a run.
// Runs of kShortRun rows and more go through tensor cores (attention_cached_tiles_cuda.cu), the
// rest row by row.
inline constexpr int kTileRows = 64;
inline constexpr int kShortRun = 8;
// The most rows of a call whose keys and values may be read from qkv.
inline constexpr int kFreshRows = 128;

// Division by a number that is known only at run time, for 0 <= n < 2^31.
struct Divider {
  std::uint32_t divisor = 1, multiplier = 0, shift = 0;

  [[nodiscard]] static Divider by(std::int64_t divisor) {
    std::uint32_t bits = 0;
    while ((std::int64_t{1} << bits) < divisor) ++bits;
    if (bits == 0) return {};
    const std::uint64_t power = std::uint64_t{1} << (31 + bits);
    const auto d = static_cast<std::uint64_t>(divisor);
    return {static_cast<std::uint32_t>(d), static_cast<std::uint32_t>((power + d - 1) / d),
            bits - 1};
  }
  [[nodiscard]] __device__ std::uint32_t quotient(std::uint32_t n) const {
    return divisor == 1 ? n : __umulhi(n, multiplier) >> shift;
  }
};

template <class T>
struct Cached {
  const T* qkv = nullptr;
  const std::int32_t *positions = nullptr, *sequences = nullptr, *block_table = nullptr;
  T *k_pages = nullptr, *v_pages = nullptr, *ctx = nullptr;
  std::int64_t max_pages = 0, page_size = 0, capacity = 0, width = 0;
  Divider page;
  int rows = 0, heads = 0, dim = 0;
  float scale = 0;  // of the scores
  FaultRecord* fault = nullptr;

  // Offset of a position of the sequence whose pages are given, at its first head.
  [[nodiscard]] __device__ std::int64_t slot(const std::int32_t* pages,
                                             std::int64_t position) const {
    const std::uint32_t index = page.quotient(static_cast<std::uint32_t>(position));
    const std::int64_t inside = position - static_cast<std::int64_t>(index) * page_size;
    return (pages[index] * page_size + inside) * width;
  }
  [[nodiscard]] __device__ const std::int32_t* pages_of(std::int32_t sequence) const {
    return block_table + sequence * max_pages;
  }
  // Positions a row attends to; 0 for padding and for what does not fit (append reports it).
  [[nodiscard]] __device__ int length(std::int64_t row) const {
    const std::int32_t position = positions[row];
    return position < 0 || position >= capacity ? 0 : position + 1;
  }
};

// Whether a row that attends to something belongs to a long run. Whole warps ask.
template <class T>
__device__ bool in_long_run(const Cached<T>& a, int row) {
  static_assert(kTileRows == 2 * kWarp);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int first = row / kTileRows * kTileRows, bit = row - first;
  const std::int32_t sequence = a.sequences[row];
  const auto same = [&](int other) {
    return other < a.rows && a.sequences[other] == sequence && a.length(other) > 0;
  };
  const std::uint64_t low = __ballot_sync(0xffffffffU, same(first + lane));
  const std::uint64_t high = __ballot_sync(0xffffffffU, same(first + kWarp + lane));
  const std::uint64_t others = ~(high << kWarp | low);  // where runs end
  const std::uint64_t above = others >> bit, below = others << (kTileRows - 1 - bit);
  const int up = above == 0 ? kTileRows - bit : __ffsll(static_cast<long long>(above)) - 1;
  const int down = below == 0 ? bit + 1 : __clzll(static_cast<long long>(below));
  return up + down - 1 >= kShortRun;
}

enum class RowsTask {
  Decode,     // append, then attend: at most kFreshRows rows, of any sequences
  All,        // keys and values are in the pages already
  ShortRuns,  // likewise, without the rows of long runs
};
// False, with nothing done, unless head_dim is 64 or 128. Writes zeros for padding and reports
// positions that do not fit.
template <class T>
bool attend_each_row(const Queue& queue, const Cached<T>& arguments, RowsTask task);

// Long runs; keys and values are in the pages already. Rows of short runs and padding are left
// alone. False, with nothing done, unless in bf16 with a head_dim of 64 or 128.
bool attend_tiles(const Queue& queue, const Cached<Bf16>& arguments);
bool attend_tiles(const Queue& queue, const Cached<float>& arguments);

}  // namespace imhotep::kernels::cuda::paged
