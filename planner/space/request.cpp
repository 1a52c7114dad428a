#include "planner/space/request.h"

#include <algorithm>

#include "core/base/fail.h"
#include "core/base/units.h"

namespace imhotep::planner {

std::vector<int> default_worlds(const ClusterSpec& cluster) {
  std::vector<int> worlds;
  for (int world = 1; world <= cluster.devices(); world *= 2) worlds.push_back(world);
  if (worlds.back() != cluster.devices()) worlds.push_back(cluster.devices());
  return worlds;
}

int ranks_per_node(const ClusterSpec& cluster, int world) {
  const int spread = (world + cluster.nodes - 1) / cluster.nodes;
  return std::max(std::min(cluster.devices_per_node, world), spread);
}

std::int64_t rank_memory_bytes(const ClusterSpec& cluster, int world) {
  if (cluster.device.kind == DeviceKind::Cuda) return cluster.device.memory_bytes;
  return cluster.device.memory_bytes * cluster.devices_per_node / ranks_per_node(cluster, world);
}

namespace {

struct Part {
  std::string key;
  std::vector<std::string> values;
};

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const std::size_t end = std::min(text.find(separator, begin), text.size());
    parts.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

// A piece without '=' continues the list of the key before it.
std::vector<Part> parts_of(std::string_view text) {
  std::vector<Part> parts;
  for (const std::string& piece : split(text, ',')) {
    const std::size_t equals = piece.find('=');
    if (equals != std::string::npos) {
      parts.push_back({piece.substr(0, equals), {piece.substr(equals + 1)}});
    } else if (parts.empty()) {
      fail_input("fixed degrees: expected key=value such as tensor=2, got \"{}\"", piece);
    } else {
      parts.back().values.push_back(piece);
    }
  }
  return parts;
}

int whole_number(const std::string& key, const std::string& text, int least = 1) {
  int value = -1;
  try {
    value = static_cast<int>(std::min<std::int64_t>(parse_integer(text), 1 << 30));
  } catch (const Error&) {
  }
  if (value < least) {
    fail_input("fixed degrees: {}: expected a whole number >= {}, got \"{}\"", key, least, text);
  }
  return value;
}

const std::string& only_value(const Part& part) {
  if (part.values.size() != 1) {
    fail_input("fixed degrees: {} takes one value, got {}", part.key, fmt::join(part.values, ","));
  }
  return part.values.front();
}

template <class E>
E named(const Part& part) {
  E value{};
  if (!parse_enum(only_value(part), value)) {
    fail_input("fixed degrees: {}: expected one of {}, got \"{}\"", part.key,
               fmt::join(names_of<E>(), ", "), only_value(part));
  }
  return value;
}

std::vector<int> experts_of_layers(const ModelSpec& model) {
  std::vector<int> experts;
  for (int layer = 0; layer < model.layers; ++layer) {
    if (model.experts_at(layer) > 0) experts.push_back(model.experts_at(layer));
  }
  return experts;
}

std::vector<int> values_by_kind(const Part& part, const std::vector<int>& experts) {
  std::vector<int> values(experts.size(), 0);
  for (const std::string& text : part.values) {
    const std::vector<std::string> pair = split(text, 'x');
    if (pair.size() != 2) return {};
    const int degree = whole_number(part.key, pair[0]), count = whole_number(part.key, pair[1]);
    if (std::find(experts.begin(), experts.end(), count) == experts.end()) return {};
    for (std::size_t i = 0; i < experts.size(); ++i) {
      if (experts[i] == count) values[i] = degree;
    }
  }
  return values;
}

std::vector<int> values_by_layer(const Part& part, const std::vector<int>& experts) {
  std::vector<int> values;
  for (const std::string& text : part.values) {
    const std::vector<std::string> pair = split(text, 'x');
    if (pair.size() > 2) fail_input("fixed degrees: {}: cannot read \"{}\"", part.key, text);
    const int repeat = pair.size() == 2 ? whole_number(part.key, pair[1]) : 1;
    if (repeat > 100000) fail_input("fixed degrees: {}: cannot read \"{}\"", part.key, text);
    values.insert(values.end(), repeat, whole_number(part.key, pair[0]));
  }
  if (values.size() != experts.size()) {
    fail_input(
        "fixed degrees: {}={}: expected one value, one for each of the {} MoE layers, or pairs "
        "degree x experts with experts among {}",
        part.key, fmt::join(part.values, ","), experts.size(), fmt::join(experts, ", "));
  }
  return values;
}

std::vector<int> layer_values(const Part& part, const std::vector<int>& experts) {
  if (part.values.size() == 1 && part.values[0].find('x') == std::string::npos) {
    return std::vector<int>(experts.size(), whole_number(part.key, part.values[0]));
  }
  const std::vector<int> by_kind = values_by_kind(part, experts);
  return by_kind.empty() ? values_by_layer(part, experts) : by_kind;
}

void apply(const Part& part, const std::vector<int>& experts, FixedDegrees& fixed) {
  const std::string& key = part.key;
  if (key == "tensor") {
    fixed.tensor = whole_number(key, only_value(part));
  } else if (key == "data") {
    fixed.data = whole_number(key, only_value(part));
  } else if (key == "zero") {
    fixed.zero = whole_number(key, only_value(part), 0);
    if (*fixed.zero > 1) fail_input("fixed degrees: zero: possible: 0, 1; got {}", *fixed.zero);
  } else if (key == "micro_batch") {
    fixed.micro_batch = whole_number(key, only_value(part));
  } else if (key == "accumulation") {
    fixed.accumulation = whole_number(key, only_value(part));
  } else if (key == "recompute") {
    fixed.recompute = named<Recompute>(part);
    if (fixed.recompute == Recompute::Some) {
      fail_input("fixed degrees: recompute: expected none or full, got \"some\"");
    }
  } else if (key == "exchange") {
    fixed.exchange = named<ExchangeAlgorithm>(part);
  } else if (key == "rank_order") {
    fixed.rank_order = named<RankOrder>(part);
  } else if (key == "expert") {
    fixed.expert = layer_values(part, experts);
  } else if (key == "slicing") {
    fixed.slicing = layer_values(part, experts);
  } else if (key == "replica") {
    fixed.replica = layer_values(part, experts);
  } else {
    const std::string near =
        nearest(key, {"tensor", "data", "expert", "slicing", "replica", "exchange", "zero",
                      "micro_batch", "accumulation", "recompute", "rank_order"});
    fail_input("fixed degrees: unknown key \"{}\"{}", key,
               near.empty() ? "; known: tensor data expert slicing replica exchange zero "
                              "micro_batch accumulation recompute rank_order"
                            : fmt::format(" (did you mean \"{}\"?)", near));
  }
}

}  // namespace

FixedDegrees parse_fixed_degrees(std::string_view text, const ModelSpec& model) {
  FixedDegrees fixed;
  const std::vector<int> experts = experts_of_layers(model);
  for (const Part& part : parts_of(text)) {
    const bool of_layers = part.key == "expert" || part.key == "slicing" || part.key == "replica";
    if (of_layers && experts.empty()) {
      fail_input("fixed degrees: {}: the model \"{}\" has no MoE layer", part.key, model.name);
    }
    apply(part, experts, fixed);
  }
  return fixed;
}

}  // namespace imhotep::planner
