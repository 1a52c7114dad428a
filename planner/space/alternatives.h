#pragma once
// What a request may leave open beside its degrees: the type of weights and activations, the
// gate's capacity, and for generation how many sequences are answered at once. The sets are small,
// so each combination is a request of its own; planner/search/search_open.h searches them all.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "planner/space/request.h"

namespace imhotep::planner {

using Capacity = std::optional<double>;  // slots by the even share; none: every route is kept

// Empty lists leave what the request says.
struct OpenChoices {
  std::vector<Dtype> dtypes;
  std::vector<Capacity> capacities;
  std::vector<std::int64_t> batches;
  [[nodiscard]] std::size_t combinations() const;
};

// "any": what the executor runs on such devices; or a list, "bf16,fp32".
[[nodiscard]] std::vector<Dtype> parse_dtypes(std::string_view text, DeviceKind device);
// "any": none,1,1.25,2; or a list. Factors are at least 0.01.
[[nodiscard]] std::vector<Capacity> parse_capacities(std::string_view text);
// "64", "8,16,24", or "1:128": both ends and the powers of two between them.
[[nodiscard]] std::vector<std::int64_t> parse_batches(std::string_view text);
// "fill", or tokens of a data rank: "64Ki,128Ki".
[[nodiscard]] KvBudget parse_kv_budget(std::string_view text);
// All throw Error(Input) that names what cannot be read; lists come back without repetitions.

void set_capacity(RouterSpec& router, Capacity capacity);
// "dropless" or "capacity 1.25".
[[nodiscard]] std::string gate_text(const RouterSpec& router);

struct Alternative {
  Request request;
  std::string choice;  // "bf16, capacity 1.25", what was open alone; empty: nothing was
};
// The combinations, in the order of the lists. Throws: Error(Input) where something is open that
// this workload does not decide: batches of training, capacities of generation.
[[nodiscard]] std::vector<Alternative> alternatives_of(const Request& request,
                                                       const OpenChoices& open);

}  // namespace imhotep::planner
