#pragma once
// Fused operations of a decode step. See profiles/families.h.
// They are bound by the weights they read: those of the expected distinct experts, once each.

#include "profiles/families.h"

namespace imhotep::profiles {

template <>
struct Family<NormGemm> {
  static constexpr bool kCommunication = false;
  static constexpr std::array kKeys = {"rows", "n", "k"};
  static Variants variants() { return {"", "bias", "bias_gelu"}; }
  static int variant(const NormGemm& s) { return static_cast<int>(s.epilogue); }
  static Key key(const NormGemm& s) { return {number(s.rows), number(s.n), number(s.k)}; }
  static Work work(int epilogue, const Key& x, ElementSizes size) {
    const double rows = x[0], n = x[1], k = x[2];
    const double gelu = static_cast<Epilogue>(epilogue) == Epilogue::BiasGelu ? kGeluFlops : 0;
    return {rows * (n * (2 * k + gelu) + 8 * k), (n * k + rows * (n + k)) * size.data, k};
  }
};

// The router's weights are wide.
template <>
struct Family<NormGate> {
  static constexpr bool kCommunication = false;
  static constexpr std::array kKeys = {"rows", "hidden", "experts", "mlp"};
  static Variants variants() { return {"", "residual"}; }
  static int variant(const NormGate& s) { return s.mlp > 0 ? 1 : 0; }
  static Key key(const NormGate& s) {
    return {number(s.rows), number(s.hidden), number(s.experts), number(s.mlp)};
  }
  static Work work(int residual, const Key& x, ElementSizes size) {
    const double rows = x[0], hidden = x[1], logits = x[2] + 2 * residual, mlp = x[3];
    return {rows * (hidden * (8 + 2 * logits + 2 * mlp) + kGeluFlops * mlp),
            (mlp * hidden + rows * (2 * hidden + mlp)) * size.data +
                logits * (hidden + rows) * size.wide};
  }
};

struct FewExperts {
  static constexpr bool kCommunication = false;
  static constexpr std::array kKeys = {"tokens", "k", "active", "hidden", "ffn"};
  template <class Shape>
  static Key key(const Shape& s) {
    return {number(s.tokens), number(s.k), s.active, number(s.hidden), number(s.ffn)};
  }
};

template <>
struct Family<FewExpertsUp> : FewExperts {
  static Variants variants() { return {""}; }
  static int variant(const FewExpertsUp&) { return 0; }
  static Work work(int, const Key& x, ElementSizes size) {
    const double routes = x[0] * x[1], hidden = x[3], ffn = x[4];
    return {routes * ffn * (2 * hidden + kGeluFlops),
            (x[2] * hidden * ffn + routes * (hidden + ffn)) * size.data, hidden};
  }
};

template <>
struct Family<FewExpertsDown> : FewExperts {
  static Variants variants() { return {"", "residual"}; }
  static int variant(const FewExpertsDown& s) { return s.residual ? 1 : 0; }
  static Work work(int residual, const Key& x, ElementSizes size) {
    const double tokens = x[0], rows = tokens * (x[1] + residual), hidden = x[3], ffn = x[4];
    return {2 * rows * hidden * (ffn + 1),
            ((x[2] + residual) * hidden * ffn + rows * ffn + 2 * tokens * hidden) * size.data, ffn};
  }
};

}  // namespace imhotep::profiles
