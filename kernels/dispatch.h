#pragma once
// Who gets which token: tables that turn routes into contiguous rows, and the row moves that use
// them. A rank packs its rows in the full order:
//   for lane, for expert rank of that lane ascending, for copy, for local expert ascending,
//   for (token, choice) ascending,
// so that each lane's rows are one segment, the rows for one peer are contiguous inside it, and
// a peer receives its rows grouped by local expert. Expert e lives on expert rank
// e / (experts / expert_degree); expert rank r belongs to lane r % lanes.
// Lanes are the tensor indices of the coordinated all-to-all (lanes = 1: flat exchange); copies
// are the slicing peers that each compute a part of the expert.
// Source: parallelism-coordinated communication, arXiv 2201.05596, section 5.3.
// Safe to include from .cu files.

#include <cstdint>

#include "core/base/shapes.h"
#include "kernels/queue.h"

namespace imhotep::kernels {

struct PackOrderOperands {
  const std::int32_t* expert = nullptr;  // [T, k], -1 = no row
  std::int32_t* order = nullptr;         // out [(token_end - token_begin) * k * copies]: token of
                                         // each row of the full order
  std::int32_t* position = nullptr;      // out [T, k, copies]: row in the full order, -1 = none
  std::int32_t* segments = nullptr;      // out [lanes + 1]: first row of each lane, then the total
  std::int32_t* counts = nullptr;  // out [expert_degree / lanes * copies, local experts]: rows
                                   // for each peer of this rank's own lane; peer =
                                   // (index of expert rank in the lane) * copies + copy
};

// Requires: expert_degree divides experts, lanes divides expert_degree.
// With lanes > 1 the token range is all tokens, since all lanes hold the same ones.
void pack_order(const Queue& queue, const PackOrder& shape, const PackOrderOperands& operands);

struct ReceiveOrderOperands {
  const std::int32_t* counts = nullptr;    // [sources, local_experts]; rows arrive source-major,
                                           // then by expert
  std::int32_t* expert_offsets = nullptr;  // out [local_experts + 1]
  std::int32_t* index = nullptr;           // out [rows]: received row of each expert-major row;
                                           // within an expert ordered by source
  std::int32_t* range = nullptr;           // out [2]: 0, total rows
};

// Throws: Failed when the total exceeds rows.bound (CUDA: RowsExceedBound, and the tables hold no
// rows).
void receive_order(const Queue& queue, const ReceiveOrder& shape,
                   const ReceiveOrderOperands& operands);

// for i in [begin, end): out[i] = in[index[i]], or inverse: out[index[i]] = in[i].
struct GatherRowsOperands {
  const void* in = nullptr;             // data [*, hidden]
  const std::int32_t* index = nullptr;  // [>= end]
  const std::int32_t* range = nullptr;  // [2]: begin, end
  void* out = nullptr;                  // out data [*, hidden]
};

// Throws: Failed when end - begin exceeds rows.bound (CUDA: RowsExceedBound, and the rows beyond
// are not moved).
void gather_rows(const Queue& queue, const GatherRows& shape, const GatherRowsOperands& operands);

// dn[token] (+)= sum over choices and copies of rows[position - row_base], for positions inside
// [row_base, row_end). Per-token pointers are already offset to the caller's share of the tokens.
struct ScatterSumOperands {
  const void* rows = nullptr;              // data [row_end - row_base, hidden]
  const std::int32_t* range = nullptr;     // [2]: row_base, row_end; null = rows hold everything
  const std::int32_t* position = nullptr;  // [tokens, k, copies]
  void* dn = nullptr;                      // data [tokens, hidden]
};

void scatter_sum(const Queue& queue, const ScatterSum& shape, const ScatterSumOperands& operands);

namespace cuda {
void pack_order(const Queue& queue, const PackOrder& shape, const PackOrderOperands& operands);
void receive_order(const Queue& queue, const ReceiveOrder& shape,
                   const ReceiveOrderOperands& operands);
void gather_rows(const Queue& queue, const GatherRows& shape, const GatherRowsOperands& operands);
void scatter_sum(const Queue& queue, const ScatterSum& shape, const ScatterSumOperands& operands);
}  // namespace cuda

namespace cpu {
void pack_order(const PackOrder& shape, const PackOrderOperands& operands);
void receive_order(const ReceiveOrder& shape, const ReceiveOrderOperands& operands);
template <class T>
void gather_rows(const GatherRows& shape, const GatherRowsOperands& operands);
template <class T>
void scatter_sum(const ScatterSum& shape, const ScatterSumOperands& operands);
}  // namespace cpu

}  // namespace imhotep::kernels
