#pragma once
// Dense mathematics. See profiles/families.h.

#include "profiles/families.h"

namespace imhotep::profiles {

template <>
struct Family<LayerNorm> : RowsByHidden, OneVariant {
  static Work work(int, const Key& x, ElementSizes size) {
    return {8 * x[0] * x[1], 2 * x[0] * x[1] * size.data};
  }
};

template <>
struct Family<LayerNormGrad> : RowsByHidden, SetOrAccumulate {
  static Work work(int accumulate, const Key& x, ElementSizes size) {
    return {16 * x[0] * x[1], (3 + accumulate) * x[0] * x[1] * size.data};
  }
};

// A variant is transpose_a + 2 transpose_b + 4 (epilogue + 6 (accumulate + 2 wide)); wide: any of
// the three matrices is.
template <>
struct Family<Gemm> {
  static constexpr bool kCommunication = false;
  static constexpr std::array kKeys = {"m", "n", "k"};
  static constexpr std::array kEpilogues = {
      "", " bias", " bias_gelu", " bias_residual", " gelu_grad", " bias_grad"};
  static constexpr int kEpilogueCount = static_cast<int>(kEpilogues.size());
  static Variants variants() {
    Variants texts;
    for (const char* wide : {"", " wide"}) {
      for (const char* accumulate : {"", " accumulate"}) {
        for (const char* epilogue : kEpilogues) {
          for (const char* order : {"nn", "tn", "nt", "tt"}) {
            texts.push_back(std::string(order) + epilogue + accumulate + wide);
          }
        }
      }
    }
    return texts;
  }
  static int variant(const Gemm& s) {
    const bool wide = s.wide || s.wide_a || s.wide_b;
    return (s.transpose_a ? 1 : 0) + (s.transpose_b ? 2 : 0) +
           4 * (static_cast<int>(s.epilogue) +
                kEpilogueCount * ((s.accumulate ? 1 : 0) + (wide ? 2 : 0)));
  }
  static Key key(const Gemm& s) { return {number(s.m), number(s.n), number(s.k)}; }
  static Work work(int variant, const Key& x, ElementSizes size) {
    const double m = x[0], n = x[1], k = x[2];
    const auto epilogue = static_cast<Epilogue>(variant / 4 % kEpilogueCount);
    const int flags = variant / 4 / kEpilogueCount;
    const bool gelu = epilogue == Epilogue::BiasGelu || epilogue == Epilogue::GeluGrad;
    const bool extra = gelu || epilogue == Epilogue::BiasResidual;
    const double result = (flags & 2) != 0 ? size.wide : size.data;
    const double once = gelu ? kGeluFlops * m * n : epilogue == Epilogue::BiasGrad ? m * k : 0;
    return {2 * m * n * k + once,
            (m * k + n * k) * size.data +
                m * n * (result * ((flags & 1) != 0 ? 2 : 1) + (extra ? size.data : 0)),
            k};
  }
};

template <>
struct Family<ColumnSum> : RowsByColumns {
  static Work work(int, const Key& x, ElementSizes size) {
    return {x[0] * x[1], x[0] * x[1] * size.data};
  }
};

template <>
struct Family<Add> : Elements {
  static Work work(int, const Key& x, ElementSizes size) { return {x[0], 3 * x[0] * size.data}; }
};

template <>
struct Family<Fill> : Elements {
  static Work work(int, const Key& x, ElementSizes size) { return {0, x[0] * size.data}; }
};

template <>
struct Family<Embedding> : RowsByHidden {
  static constexpr bool kCommunication = false;
  static Variants variants() { return {"", "position"}; }
  static int variant(const Embedding& s) { return s.add_position ? 1 : 0; }
  static Work work(int position, const Key& x, ElementSizes size) {
    return {position * x[0] * x[1], (2 + position) * x[0] * x[1] * size.data};
  }
};

template <>
struct Family<EmbeddingGrad> : RowsByHidden, OneVariant {
  static Work work(int, const Key& x, ElementSizes size) {
    return {2 * x[0] * x[1], 5 * x[0] * x[1] * size.data};
  }
};

// Causal: half of the sequence x sequence scores. Flat in batch x heads, which are independent.
struct FullAttention : OneVariant {
  static constexpr std::array kKeys = {"batch_heads", "sequence", "head_dim"};
  template <class Shape>
  static Key key(const Shape& s) {
    return {number(s.batch * s.heads), number(s.sequence), number(s.head_dim)};
  }
};

template <>
struct Family<Attention> : FullAttention {
  static Work work(int, const Key& x, ElementSizes size) {
    const double scores = x[0] * x[1] * (x[1] + 1) / 2;
    return {scores * (4 * x[2] + kExpFlops), 4 * x[0] * x[1] * x[2] * size.data, x[1]};
  }
};

template <>
struct Family<AttentionGrad> : FullAttention {
  static Work work(int, const Key& x, ElementSizes size) {
    const double scores = x[0] * x[1] * (x[1] + 1) / 2;
    return {scores * (10 * x[2] + kExpFlops), 8 * x[0] * x[1] * x[2] * size.data, x[1]};
  }
};

template <>
struct Family<AttentionCached> : OneVariant {
  static constexpr std::array kKeys = {"rows", "heads", "head_dim", "context"};
  static Key key(const AttentionCached& s) {
    return {number(s.rows), number(s.heads), number(s.head_dim), s.context};
  }
  static Work work(int, const Key& x, ElementSizes size) {
    const double width = x[0] * x[1] * x[2];
    return {x[0] * x[1] * x[3] * (4 * x[2] + kExpFlops), (2 * x[3] + 6) * width * size.data, x[3]};
  }
};

}  // namespace imhotep::profiles
