#pragma once
// Attention of generation: keys and values of earlier tokens lie in pages of a pool.
// First the keys and values of all rows are appended, then every row attends to the positions of
// its sequence up to its own; so a row sees the rows of the same step that come before it.
// Position p of sequence s is slot p % page_size of page block_table[s, p / page_size].
// Source: Kwon et al., "Efficient Memory Management for Large Language Model Serving with
// PagedAttention" (2023), section 4.1.
// Safe to include from .cu files.

#include <cstdint>

#include "core/base/scratch.h"
#include "core/base/shapes.h"
#include "kernels/queue.h"

namespace imhotep::kernels {

struct AttentionCachedOperands {
  const void* qkv = nullptr;                  // data [rows, 3 * heads * head_dim]: q, k, v
  const std::int32_t* positions = nullptr;    // table [rows]; -1: padding, its ctx is zero
  const std::int32_t* sequences = nullptr;    // table [rows]: row of block_table
  const std::int32_t* block_table = nullptr;  // table [sequences, max_pages]: page numbers
  void* k_pages = nullptr;                    // in/out data [pages, page_size, heads, head_dim]
  void* v_pages = nullptr;                    // in/out data [pages, page_size, heads, head_dim]
  void* ctx = nullptr;                        // out data [rows, heads * head_dim]
  void* scratch = nullptr;                    // data
};
// Throws: Error(Failed) when a position does not fit into max_pages pages.
void attention_cached(const Queue& queue, const AttentionCached& shape,
                      const AttentionCachedOperands& operands);

namespace cpu {
template <class T>
void attention_cached(const AttentionCached& shape, const AttentionCachedOperands& operands);
}  // namespace cpu

namespace cuda {
void attention_cached(const Queue& queue, const AttentionCached& shape,
                      const AttentionCachedOperands& operands);
}  // namespace cuda

}  // namespace imhotep::kernels
