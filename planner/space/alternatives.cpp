#include "planner/space/alternatives.h"

#include <algorithm>
#include <cmath>

#include "core/base/fail.h"
#include "core/base/units.h"
#include "core/base/words.h"

namespace imhotep::planner {
namespace {

template <class T>
void add_once(std::vector<T>& list, const T& value) {
  if (std::find(list.begin(), list.end(), value) == list.end()) list.push_back(value);
}

// A whole number >= 1; 0 for anything else.
std::int64_t whole(const std::string& text) {
  try {
    const double value = parse_number(text);
    const bool good = value >= 1 && value <= 9e15 && value == std::floor(value);
    return good ? static_cast<std::int64_t>(value) : 0;
  } catch (const Error&) {
    return 0;
  }
}

}  // namespace

std::size_t OpenChoices::combinations() const {
  const auto of = [](std::size_t size) { return std::max<std::size_t>(1, size); };
  return of(dtypes.size()) * of(capacities.size()) * of(batches.size());
}

std::vector<Dtype> parse_dtypes(std::string_view text, DeviceKind device) {
  if (text == "any") {
    if (device == DeviceKind::Cpu) return {Dtype::F32};  // fp64 is for tests of arithmetic
    return {Dtype::Bf16, Dtype::F32};
  }
  std::vector<Dtype> dtypes;
  for (const std::string& word : words_between_commas(text)) {
    Dtype dtype{};
    if (!parse_enum(word, dtype) || dtype == Dtype::I32) {
      fail_input("--dtype {}: expected fp32, bf16 or fp64, a list of them, or any; got \"{}\"",
                 text, word);
    }
    add_once(dtypes, dtype);
  }
  return dtypes;
}

std::vector<Capacity> parse_capacities(std::string_view text) {
  if (text == "any") return {std::nullopt, 1.0, 1.25, 2.0};
  std::vector<Capacity> capacities;
  for (const std::string& word : words_between_commas(text)) {
    if (word == "none") {
      add_once(capacities, Capacity());
      continue;
    }
    double factor = 0;
    try {
      factor = parse_number(word);
    } catch (const Error&) {
    }
    if (!(factor >= 0.01)) {
      fail_input("--capacity {}: expected numbers >= 0.01, none, or any; got \"{}\"", text, word);
    }
    add_once(capacities, Capacity(factor));
  }
  return capacities;
}

std::vector<std::int64_t> parse_batches(std::string_view text) {
  const auto refuse = [&] {
    fail_input("--batch {}: expected a whole number >= 1, a list 8,16,24, or a range 1:128", text);
  };
  std::vector<std::int64_t> batches;
  if (const std::size_t colon = text.find(':'); colon != std::string_view::npos) {
    const std::int64_t from = whole(std::string(text.substr(0, colon)));
    const std::int64_t to = whole(std::string(text.substr(colon + 1)));
    if (from < 1 || to < from) refuse();
    batches.push_back(from);
    for (std::int64_t power = 1; power < to; power *= 2) {
      if (power > from) batches.push_back(power);
    }
    add_once(batches, to);
    return batches;
  }
  for (const std::string& word : words_between_commas(text)) {
    const std::int64_t batch = whole(word);
    if (batch < 1) refuse();
    add_once(batches, batch);
  }
  return batches;
}

KvBudget parse_kv_budget(std::string_view text) {
  KvBudget budget{.fill = text == "fill"};
  if (budget.fill) return budget;
  for (const std::string& word : words_between_commas(text)) {
    const std::int64_t tokens = whole(word);
    if (tokens < 1) {
      fail_input("--kv {}: expected tokens of a data rank such as 64Ki, a list of them, or fill",
                 text);
    }
    add_once(budget.tokens, tokens);
  }
  std::sort(budget.tokens.begin(), budget.tokens.end());
  return budget;
}

void set_capacity(RouterSpec& router, Capacity capacity) {
  if (!capacity) {
    router.drop = DropPolicy::None;
    return;
  }
  router.capacity_factor = *capacity;
  if (router.drop == DropPolicy::None) router.drop = DropPolicy::Position;
}

std::string gate_text(const RouterSpec& router) {
  return router.drop == DropPolicy::None ? "dropless"
                                         : fmt::format("capacity {:g}", router.capacity_factor);
}

std::vector<Alternative> alternatives_of(const Request& request, const OpenChoices& open) {
  const bool trains = request.workload.kind == WorkloadKind::Training;
  if (trains && open.batches.size() > 1) {
    fail_input(
        "--batch: several batches are for generation; the batch of a training step decides what "
        "is learnt");
  }
  if (!trains && open.capacities.size() > 1) {
    fail_input("--capacity: several capacities are for training; generation drops nothing");
  }
  std::vector<Alternative> all = {{.request = request}};
  // Each list multiplies what there is; of a list of one nothing was open.
  const auto multiply = [&all](const auto& values, auto apply, auto name) {
    if (values.empty()) return;
    std::vector<Alternative> more;
    for (const Alternative& one : all) {
      for (const auto& value : values) {
        more.push_back(one);
        apply(more.back().request, value);
        if (values.size() == 1) continue;
        more.back().choice += (one.choice.empty() ? "" : ", ") + name(value);
      }
    }
    all = std::move(more);
  };
  multiply(
      open.dtypes, [](Request& one, Dtype dtype) { one.dtype = dtype; },
      [](Dtype dtype) { return std::string(name_of(dtype)); });
  multiply(
      open.capacities,
      [](Request& one, const Capacity& factor) { set_capacity(one.model.router, factor); },
      [](const Capacity& factor) {
        RouterSpec router;
        set_capacity(router, factor);
        return gate_text(router);
      });
  multiply(
      open.batches, [](Request& one, std::int64_t batch) { one.workload.global_batch = batch; },
      [](std::int64_t batch) { return fmt::format("batch {}", batch); });
  return all;
}

}  // namespace imhotep::planner
