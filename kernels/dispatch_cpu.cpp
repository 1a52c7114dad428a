// Tables by counting sort, rows by contiguous copies. The counters live on the stack.

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/dispatch.h"
#include "kernels/route.h"
#include "kernels/row_ops.h"

namespace imhotep::kernels::cpu {
namespace {

// Where the rows of each expert start (copy 0), and how many rows one copy of its rank has.
struct Layout {
  std::array<std::int32_t, kMaxExperts> next{};      // by expert
  std::array<std::int32_t, kMaxExperts> per_copy{};  // by expert rank
};

// Rows of each expert, one copy.
std::array<std::int32_t, kMaxExperts> count(const PackOrder& shape, const std::int32_t* expert) {
  std::array<std::int32_t, kMaxExperts> rows{};
  for (std::int64_t r = shape.token_begin * shape.k; r < shape.token_end * shape.k; ++r) {
    if (expert[r] >= 0) ++rows[expert[r]];
  }
  return rows;
}

// Lays the blocks of one expert rank at `row`; returns the row after them.
std::int32_t place_rank(const PackOrder& shape, const std::int32_t* rows, std::int64_t rank,
                        std::int32_t row, Layout& layout) {
  const std::int64_t local = shape.experts / shape.expert_degree;
  std::int32_t total = 0;
  for (std::int64_t e = rank * local; e < (rank + 1) * local; ++e) {
    layout.next[e] = row + total;
    total += rows[e];
  }
  layout.per_copy[rank] = total;
  return row + total * static_cast<std::int32_t>(shape.copies);
}

void write_counts(const PackOrder& shape, const std::int32_t* rows, std::int32_t* counts) {
  const std::int64_t local = shape.experts / shape.expert_degree;
  for (std::int64_t rank = shape.lane; rank < shape.expert_degree; rank += shape.lanes) {
    for (std::int64_t copy = 0; copy < shape.copies; ++copy) {
      counts = std::copy_n(rows + rank * local, local, counts);
    }
  }
}

template <class T>
IMHOTEP_INLINE void scatter_sum_body(const ScatterSum& shape, const ScatterSumOperands& operands) {
  const RowWindow window(operands.range);
  const auto* rows = static_cast<const T*>(operands.rows);
  const std::int32_t* position = operands.position;
  auto* dn = static_cast<T*>(operands.dn);
  const std::int64_t n = shape.hidden, routes = shape.k * shape.copies;
  for (std::int64_t t = 0; t < shape.tokens; ++t, dn += n, position += routes) {
    bool fresh = !shape.accumulate;
    for (std::int64_t r = 0; r < routes; ++r) {
      if (!window.holds(position[r])) continue;
      const T* row = rows + (position[r] - window.base) * n;
      fresh ? row_scale(n, T(1), row, dn) : row_add(n, row, dn);
      fresh = false;
    }
    if (fresh) row_zero(n, dn);
  }
}

}  // namespace

void pack_order(const PackOrder& shape, const PackOrderOperands& operands) {
  const auto rows = count(shape, operands.expert);
  const std::int64_t local = shape.experts / shape.expert_degree;
  Layout layout;
  std::int32_t row = 0;
  for (std::int64_t lane = 0; lane < shape.lanes; ++lane) {
    operands.segments[lane] = row;
    for (std::int64_t rank = lane; rank < shape.expert_degree; rank += shape.lanes) {
      row = place_rank(shape, rows.data(), rank, row, layout);
    }
  }
  operands.segments[shape.lanes] = row;
  write_counts(shape, rows.data(), operands.counts);

  const std::int64_t copies = shape.copies;
  std::fill_n(operands.position, shape.tokens * shape.k * copies, -1);
  for (std::int64_t t = shape.token_begin; t < shape.token_end; ++t) {
    for (std::int64_t r = t * shape.k; r < (t + 1) * shape.k; ++r) {
      const std::int32_t e = operands.expert[r];
      if (e < 0) continue;
      std::int32_t at = layout.next[e]++;
      for (std::int64_t copy = 0; copy < copies; ++copy, at += layout.per_copy[e / local]) {
        operands.position[r * copies + copy] = at;
        operands.order[at] = static_cast<std::int32_t>(t);
      }
    }
  }
}

void receive_order(const ReceiveOrder& shape, const ReceiveOrderOperands& operands) {
  const std::int64_t experts = shape.local_experts;
  std::array<std::int32_t, kMaxExperts> next{};
  for (std::int64_t s = 0; s < shape.sources; ++s) {
    for (std::int64_t e = 0; e < experts; ++e) next[e] += operands.counts[s * experts + e];
  }
  std::int32_t total = 0;
  for (std::int64_t e = 0; e < experts; ++e) {
    operands.expert_offsets[e] = total;
    total += next[e];
    next[e] = operands.expert_offsets[e];
  }
  operands.expert_offsets[experts] = total;
  operands.range[0] = 0;
  operands.range[1] = total;
  std::int32_t received = 0;
  for (std::int64_t s = 0; s < shape.sources; ++s) {
    for (std::int64_t e = 0; e < experts; ++e) {
      const std::int32_t rows = operands.counts[s * experts + e];
      for (std::int32_t i = 0; i < rows; ++i) operands.index[next[e]++] = received++;
    }
  }
}

template <class T>
void gather_rows(const GatherRows& shape, const GatherRowsOperands& operands) {
  const auto* in = static_cast<const T*>(operands.in);
  auto* out = static_cast<T*>(operands.out);
  const std::int64_t n = shape.hidden, begin = operands.range[0], end = operands.range[1];
  const std::size_t row_bytes = static_cast<std::size_t>(n) * sizeof(T);
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t far = operands.index[i];
    const T* from = in + (shape.inverse ? i : far) * n;
    T* to = out + (shape.inverse ? far : i) * n;
    std::memcpy(to, from, row_bytes);
  }
}

IMHOTEP_KERNEL(scatter_sum, ScatterSum)
template void gather_rows<float>(const GatherRows&, const GatherRowsOperands&);
template void gather_rows<double>(const GatherRows&, const GatherRowsOperands&);

}  // namespace imhotep::kernels::cpu
