#include "core/spec/model.h"

#include <algorithm>

#include "core/base/fail.h"
#include "core/base/json_fields.h"

namespace imhotep {

ExpertList ExpertList::parse(std::string_view text) {
  ExpertList list;
  const std::string_view whole = text;
  const auto number = [&](std::string_view digits) {
    if (digits.empty() || digits.size() > 5 ||
        digits.find_first_not_of("0123456789") != std::string_view::npos) {
      fail_input("expected experts such as 32x10,64x2 or 128, got \"{}\"", whole);
    }
    return std::stoi(std::string(digits));
  };
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    const std::string_view part = text.substr(0, comma);
    const std::size_t cross = part.find('x');
    const int experts = number(part.substr(0, cross));
    const int repeat = cross == std::string_view::npos ? 1 : number(part.substr(cross + 1));
    if (repeat < 1 || list.slots.size() + repeat > 1000) {
      fail_input("expected experts such as 32x10,64x2 or 128, got \"{}\"", whole);
    }
    list.slots.insert(list.slots.end(), repeat, experts);
    if (comma + 1 == text.size()) fail_input("experts \"{}\" end in a comma", whole);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return list;
}

std::string ExpertList::text() const {
  std::string out;
  for (std::size_t i = 0; i < slots.size();) {
    std::size_t end = i;
    while (end < slots.size() && slots[end] == slots[i]) ++end;
    const bool alone = slots.size() == 1;
    out += (out.empty() ? "" : ",") +
           (alone ? std::to_string(slots[i]) : fmt::format("{}x{}", slots[i], end - i));
    i = end;
  }
  return out;
}

int ModelSpec::experts_at(int layer) const {
  if (experts.slots.empty() || (layer + 1) % moe_interval != 0) return 0;
  const std::size_t slot = (layer + 1) / moe_interval - 1;
  return experts.slots.size() == 1     ? experts.slots[0]
         : slot < experts.slots.size() ? experts.slots[slot]
                                       : 0;
}

int ModelSpec::moe_layers() const {
  int count = 0;
  for (int layer = 0; layer < layers; ++layer) count += experts_at(layer) > 0 ? 1 : 0;
  return count;
}

void check(const ModelSpec& model) {
  const auto refuse = [&](const std::string& text) {
    fail_input("model \"{}\": {}", model.name, text);
  };
  if (model.hidden % model.heads != 0) {
    refuse(fmt::format("heads ({}) must divide hidden ({})", model.heads, model.hidden));
  }
  const int slots = model.layers / model.moe_interval;
  const auto listed = static_cast<int>(model.experts.slots.size());
  if (listed > 1 && listed != slots) {
    refuse(fmt::format("experts lists {} slots, but {} layers with an MoE slot every {} have {}",
                       listed, model.layers, model.moe_interval, slots));
  }
  for (const int experts : model.experts.slots) {
    if (experts > 0 && experts < model.top_k) {
      refuse(fmt::format("top_k ({}) exceeds the experts of a layer ({})", model.top_k, experts));
    }
  }
  if (model.top_k > 1 && model.router.drop == DropPolicy::Random) {
    refuse(
        "random token selection is defined for top_k 1; use drop \"position\" or \"probability\"");
  }
  if (model.top_k < 3 && model.router.drop == DropPolicy::Probability) {
    refuse("dropping by probability is defined for top_k 3 and more");
  }
}

ModelSpec read_model(const std::string& file) {
  auto model = read_document<ModelSpec>(JsonDocument::read(file), kModelSchema);
  try {
    check(model);
  } catch (const Error& error) {
    fail_input("{}: {}", file, error.what());
  }
  return model;
}

void write_model(const ModelSpec& model, const std::string& file) {
  write_text_file(file, document_of(model, kModelSchema).dump(2) + "\n");
}

}  // namespace imhotep
