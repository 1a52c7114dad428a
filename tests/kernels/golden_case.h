#pragma once
// One case of a golden file. Every field must be read by the check of its kind: what is left over
// is a case that the check does not understand, and fails it.

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "core/base/fail.h"
#include "kernels/route.h"

namespace imhotep::golden {

class Case {
 public:
  explicit Case(const nlohmann::json& fields) : fields_(fields) {}

  [[nodiscard]] bool has(const std::string& field) const { return fields_.contains(field); }

  template <class T>
  T get(const std::string& field) {
    if (!has(field)) fail("field '{}' is missing", field);
    read_.insert(field);
    return fields_.at(field).get<T>();
  }
  template <class T>
  T get_or(const std::string& field, T fallback) {
    return has(field) ? get<T>(field) : fallback;
  }
  std::vector<float> floats(const std::string& field, std::int64_t count) {
    return sized(get<std::vector<float>>(field), field, count);
  }
  std::vector<std::int32_t> integers(const std::string& field, std::int64_t count) {
    return sized(get<std::vector<std::int32_t>>(field), field, count);
  }
  std::vector<double> draws(const std::string& field, std::int64_t count) {
    return has(field) ? sized(get<std::vector<double>>(field), field, count)
                      : std::vector<double>{};
  }
  const nlohmann::json& object(const std::string& field) {
    read_.insert(field);
    return fields_.at(field);
  }

  void finish() const {
    for (const auto& [field, value] : fields_.items()) {
      if (!read_.contains(field)) fail("field '{}' is unknown to this kind of case", field);
    }
  }

 private:
  template <class T>
  static std::vector<T> sized(std::vector<T> values, const std::string& field, std::int64_t count) {
    if (static_cast<std::int64_t>(values.size()) != count) {
      fail("field '{}': expected {} values, got {}", field, count, values.size());
    }
    return values;
  }

  const nlohmann::json& fields_;
  std::set<std::string> read_;
};

// |got - expected| <= tolerance * max(floor, largest |expected|), or an Error that says where.
template <class A, class B>
void expect_close(const std::string& what, const std::vector<A>& got,
                  const std::vector<B>& expected, double tolerance, double floor) {
  if (got.size() != expected.size()) {
    fail("{}: expected {} values, got {}", what, expected.size(), got.size());
  }
  double scale = floor;
  for (const B value : expected) scale = std::max(scale, std::abs(static_cast<double>(value)));
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double difference =
        std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i]));
    if (!(difference <= tolerance * scale)) {
      fail("{}[{}]: expected {}, got {}, tolerance {:.1e} of {:.3g}", what, i, expected[i], got[i],
           tolerance, scale);
    }
  }
}

template <class T>
void expect_equal(const std::string& what, const std::vector<T>& got,
                  const std::vector<T>& expected) {
  expect_close(what, got, expected, 0, 1);
}

// What a routing case and a layer case have in common.
struct Routing {
  std::int64_t tokens = 0, experts = 0, k = 1;
  std::vector<float> probs, weight, stats;
  std::vector<std::int32_t> expert, slot, exp_counts;
  double l_aux = 0;
};

// Routes with operands in host memory: on the CPU, or through copies on a GPU.
using RunRoute = std::function<void(const Route&, const kernels::RouteOperands&)>;
void route_on_cpu(const Route& shape, const kernels::RouteOperands& operands);

// Reads cf, min_capacity, capacity, policy, uniform, gumbel or noise, used; routes; compares
// l_aux, capacity, exp_counts and the route table (expert, slot, gate) where the case has them.
[[nodiscard]] Routing check_routing(Case& fields, std::int64_t tokens, std::int64_t experts,
                                    std::int64_t k, const std::vector<float>& logits,
                                    const RunRoute& run = route_on_cpu);

void check_routing_case(Case& fields, const RunRoute& run = route_on_cpu);
void check_layer_case(Case& fields);
void check_distillation_case(Case& fields);

// Throws: Error on a difference, an unknown kind of case or an unknown field.
void check_case(const nlohmann::json& fields);

}  // namespace imhotep::golden
