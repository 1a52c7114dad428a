#pragma once
// Sums whose bits do not depend on who adds: terms in rank order.

#include <cstdint>
#include <cstring>

#include "core/base/dtype.h"
#include "core/base/fail.h"

namespace imhotep::executor {

struct OrderedSum {
  int rank = 0, size = 1;
  std::int64_t elements = 0;
};

namespace detail {

template <class T>
void add_ordered(char* total, const char* own, char* parts, OrderedSum sum_of) {
  const auto [rank, size, elements] = sum_of;
  if (rank == 0 && total != own) std::memcpy(total, own, elements * sizeof(T));
  T* sum = reinterpret_cast<T*>(rank == 0 ? total : parts);
  for (int m = 1, part = rank == 0 ? 0 : 1; m < size; ++m) {
    const T* term = m == rank ? reinterpret_cast<const T*>(own)
                              : reinterpret_cast<const T*>(parts) + (part++) * elements;
    for (std::int64_t i = 0; i < elements; ++i) sum[i] += term[i];
  }
  if (rank != 0) std::memcpy(total, sum, elements * sizeof(T));
}

}  // namespace detail

// total = the terms of all members in rank order; parts: those of the others, in that order, which
// may be overwritten. own may be total. Requires: size > 1; fp32, fp64 or int32.
inline void add_in_rank_order(char* total, const char* own, char* parts, OrderedSum sum,
                              Dtype dtype) {
  if (dtype == Dtype::F32) return detail::add_ordered<float>(total, own, parts, sum);
  if (dtype == Dtype::F64) return detail::add_ordered<double>(total, own, parts, sum);
  if (dtype == Dtype::I32) return detail::add_ordered<std::int32_t>(total, own, parts, sum);
  fail("CPU ranks sum fp32, fp64 and int32, not bf16");
}

}  // namespace imhotep::executor
