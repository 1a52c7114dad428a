// One row at a time: all heads of a position lie together, so keys, then values are read front to
// back, page by page, as fast as memory delivers them. Pages are scattered, so the hardware does
// not foresee the next one: it is prefetched.
#include <algorithm>
#include <cmath>

#include "kernels/attention_cached.h"
#include "kernels/vector_math.h"
#include "kernels/vectors.h"

namespace imhotep::kernels::cpu {
namespace {

template <class T>
struct Row {
  const T* q = nullptr;  // [heads, head_dim]
  T* ctx = nullptr;      // [heads, head_dim]
  const std::int32_t* pages = nullptr;
  std::int64_t count = 0;  // positions to attend to
  T* scores = nullptr;     // [heads, capacity]
  std::int64_t capacity = 0;
  std::int64_t ahead = 0;  // positions between a prefetch and the use
};

template <class T>
IMHOTEP_INLINE const T* slot_of(const AttentionCached& shape, const Row<T>& row, const T* pool,
                                std::int64_t position) {
  const std::int64_t page = row.pages[position / shape.page_size];
  return pool +
         (page * shape.page_size + position % shape.page_size) * shape.heads * shape.head_dim;
}

// What is read some positions later, be it in another page.
template <class T>
IMHOTEP_INLINE const T* ahead_of(const AttentionCached& shape, const Row<T>& row, const T* pool,
                                 std::int64_t position) {
  return slot_of(shape, row, pool, std::min(position + row.ahead, row.count - 1));
}

template <class T>
IMHOTEP_INLINE void prefetch(const T* from, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += kLanes<T>) __builtin_prefetch(from + i);
}

template <class T>
IMHOTEP_INLINE void append(const AttentionCached& shape, const AttentionCachedOperands& operands,
                           std::int64_t row) {
  const std::int64_t width = shape.heads * shape.head_dim, position = operands.positions[row];
  const std::int64_t page =
      operands.block_table[operands.sequences[row] * shape.max_pages + position / shape.page_size];
  const std::int64_t at = (page * shape.page_size + position % shape.page_size) * width;
  const T* k = static_cast<const T*>(operands.qkv) + row * 3 * width + width;
  std::copy_n(k, width, static_cast<T*>(operands.k_pages) + at);
  std::copy_n(k + width, width, static_cast<T*>(operands.v_pages) + at);
}

template <class T>
IMHOTEP_INLINE void scores_of(const AttentionCached& shape, const Row<T>& row, const T* k_pages) {
  const std::int64_t heads = shape.heads, dim = shape.head_dim, width = heads * dim;
  const T scale = static_cast<T>(1 / std::sqrt(static_cast<double>(dim)));
  for (std::int64_t first = 0; first < row.count; first += shape.page_size) {
    const std::int64_t slots = std::min(shape.page_size, row.count - first);
    const T* k = slot_of(shape, row, k_pages, first);
    for (std::int64_t slot = 0; slot < slots; ++slot, k += width) {
      const T* ahead = ahead_of(shape, row, k_pages, first + slot);
      for (std::int64_t head = 0; head < heads; ++head) {
        prefetch(ahead + head * dim, dim);
        row.scores[head * row.capacity + first + slot] =
            scale * dot_of(row.q + head * dim, k + head * dim, dim);
      }
    }
  }
}

template <class T>
IMHOTEP_INLINE void probabilities(const AttentionCached& shape, const Row<T>& row) {
  for (std::int64_t head = 0; head < shape.heads; ++head) {
    T* s = row.scores + head * row.capacity;
    const T high = maximum_of(s, row.count);
    IMHOTEP_SIMD
    for (std::int64_t i = 0; i < row.count; ++i) s[i] = fast_exp(s[i] - high);
    const T inverse = T(1) / sum_of(s, row.count);
    IMHOTEP_SIMD
    for (std::int64_t i = 0; i < row.count; ++i) s[i] *= inverse;
  }
}

// ctx += sum over kSlots neighbouring positions of p * v.
template <class T, int kSlots>
IMHOTEP_INLINE void add_values(const AttentionCached& shape, const Row<T>& row, const T* v_pages,
                               std::int64_t position) {
  const std::int64_t dim = shape.head_dim, width = shape.heads * dim;
  const T* v = slot_of(shape, row, v_pages, position);
  const T* ahead[kSlots];
#pragma GCC unroll 8
  for (int slot = 0; slot < kSlots; ++slot) {
    ahead[slot] = ahead_of(shape, row, v_pages, position + slot);
  }
  for (std::int64_t head = 0; head < shape.heads; ++head) {
#pragma GCC unroll 8
    for (int slot = 0; slot < kSlots; ++slot) prefetch(ahead[slot] + head * dim, dim);
    const T* p = row.scores + head * row.capacity + position;
    const T* from = v + head * dim;
    T* ctx = row.ctx + head * dim;
    std::int64_t i = 0;
    for (; i + kLanes<T> <= dim; i += kLanes<T>) {
      Vector<T> sum = load(ctx + i);
#pragma GCC unroll 8
      for (int slot = 0; slot < kSlots; ++slot) sum += p[slot] * load(from + slot * width + i);
      store(ctx + i, sum);
    }
    for (; i < dim; ++i) {
#pragma GCC unroll 1
      for (int slot = 0; slot < kSlots; ++slot) ctx[i] += p[slot] * from[slot * width + i];
    }
  }
}

template <class T>
IMHOTEP_INLINE void values_of(const AttentionCached& shape, const Row<T>& row, const T* v_pages) {
  std::fill_n(row.ctx, shape.heads * shape.head_dim, T(0));
  for (std::int64_t first = 0; first < row.count; first += shape.page_size) {
    const std::int64_t slots = std::min(shape.page_size, row.count - first);
    std::int64_t slot = 0;
    for (; slot + 4 <= slots; slot += 4) {
      add_values<T, 4>(shape, row, v_pages, first + slot);
    }
    for (; slot < slots; ++slot) add_values<T, 1>(shape, row, v_pages, first + slot);
  }
}

template <class T>
IMHOTEP_INLINE void attention_cached_body(const AttentionCached& shape,
                                          const AttentionCachedOperands& operands) {
  constexpr std::int64_t kAheadBytes = 12 << 10;  // fits the first-level cache beside the scores
  const std::int64_t width = shape.heads * shape.head_dim;
  const std::int64_t ahead =
      std::max<std::int64_t>(2, kAheadBytes / (width * static_cast<std::int64_t>(sizeof(T))));
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    if (operands.positions[row] >= 0) append<T>(shape, operands, row);
  }
  for (std::int64_t index = 0; index < shape.rows; ++index) {
    T* ctx = static_cast<T*>(operands.ctx) + index * width;
    if (operands.positions[index] < 0) {
      std::fill_n(ctx, width, T(0));
      continue;
    }
    const Row<T> row{.q = static_cast<const T*>(operands.qkv) + index * 3 * width,
                     .ctx = ctx,
                     .pages = operands.block_table + operands.sequences[index] * shape.max_pages,
                     .count = operands.positions[index] + 1,
                     .scores = static_cast<T*>(operands.scratch),
                     .capacity = shape.max_pages * shape.page_size,
                     .ahead = ahead};
    scores_of(shape, row, static_cast<const T*>(operands.k_pages));
    probabilities(shape, row);
    values_of(shape, row, static_cast<const T*>(operands.v_pages));
  }
}

}  // namespace

IMHOTEP_KERNEL(attention_cached, AttentionCached)

}  // namespace imhotep::kernels::cpu
