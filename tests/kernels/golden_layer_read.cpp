#include <charconv>
#include <cmath>

#include "tests/kernels/golden_layer.h"

namespace imhotep::golden {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

Activation activation_of(const std::string& name) {
  if (name == "gelu_tanh") return {};
  if (name == "relu") {
    return {[](double x) { return x > 0 ? x : 0.0; }, [](double x) { return x > 0 ? 1.0 : 0.0; }};
  }
  if (name == "gelu") {
    const auto normal = [](double x) { return 0.5 * std::erfc(-x * std::sqrt(0.5)); };
    return {[=](double x) { return x * normal(x); },
            [=](double x) { return normal(x) + x * std::exp(-0.5 * x * x) / std::sqrt(2 * M_PI); }};
  }
  if (name == "silu") {
    return {[](double x) { return x * sigmoid(x); },
            [](double x) { return sigmoid(x) * (1 + x * (1 - sigmoid(x))); }};
  }
  if (name == "tanh") {
    return {[](double x) { return std::tanh(x); },
            [](double x) { return 1 - std::tanh(x) * std::tanh(x); }};
  }
  if (name == "identity") return {[](double x) { return x; }, [](double) { return 1.0; }};
  fail("activation '{}' is unknown", name);
}

// Appends one tensor of the file to a parameter; experts come in order.
void take(const nlohmann::json& all, const std::string& name,
          const std::vector<std::int64_t>& shape, bool backward, Parameter& to,
          std::set<std::string>& taken) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  if (!all.contains(name)) {
    if (shape.size() != 1) fail("parameter '{}' is missing", name);
    to.value.resize(to.value.size() + count);  // a linear layer without a bias
    to.expected.resize(to.value.size());
  } else {
    Case tensor(all.at(name));
    taken.insert(name);
    if (tensor.get<std::vector<std::int64_t>>("shape") != shape) fail("{}: unexpected shape", name);
    const Floats value = tensor.floats("value", count);
    to.value.insert(to.value.end(), value.begin(), value.end());
    const Floats grad = backward ? tensor.floats("grad", count) : Floats(count);
    to.expected.insert(to.expected.end(), grad.begin(), grad.end());
    to.given = true;
    tensor.finish();
  }
  to.grad.resize(to.value.size());
}

void read_parameters(Case& fields, Layer& layer) {
  const nlohmann::json& all = fields.object("params");
  std::set<std::string> taken;
  const auto linear = [&](const std::string& name, std::int64_t rows, std::int64_t cols,
                          Linear& to) {
    take(all, name + ".weight", {rows, cols}, layer.backward, to.weight, taken);
    take(all, name + ".bias", {rows}, layer.backward, to.bias, taken);
  };
  take(all, "deepspeed_moe.gate.wg.weight", {layer.experts, layer.hidden}, layer.backward,
       layer.gate, taken);
  for (std::int64_t e = 0; e < layer.experts; ++e) {
    const std::string expert = fmt::format("deepspeed_moe.experts.deepspeed_experts.{}.", e);
    linear(expert + "a", layer.ffn, layer.hidden, layer.routed.up);
    linear(expert + "b", layer.hidden, layer.ffn, layer.routed.down);
  }
  for (const auto& [name, value] : all.items()) {
    layer.residual |= name.starts_with("mlp.") || name.starts_with("coefficient.");
  }
  if (layer.residual) {
    linear("mlp.a", layer.ffn, layer.hidden, layer.dense.up);
    linear("mlp.b", layer.hidden, layer.ffn, layer.dense.down);
    linear("coefficient", 2, layer.hidden, layer.coefficient);
  }
  for (const auto& [name, value] : all.items()) {
    if (!taken.contains(name)) fail("parameter '{}' is unknown", name);
  }
}

// "sum(y*R)", or "sum(y*R)+0.01*l_aux" with any number.
double aux_coefficient(const std::string& loss) {
  std::string text = loss;
  std::erase(text, ' ');
  const std::string head = "sum(y*R)", tail = "*l_aux";
  if (text == head) return 0;
  double value = 0;
  if (text.starts_with(head + "+") && text.ends_with(tail)) {
    const char *first = text.data() + head.size() + 1,
               *last = text.data() + text.size() - tail.size();
    const auto [end, error] = std::from_chars(first, last, value);
    if (error == std::errc() && end == last) return value;
  }
  fail("loss '{}' is unknown", loss);
}

}  // namespace

Layer read_layer(Case& fields) {
  Layer layer;
  layer.hidden = fields.get<std::int64_t>("hidden");
  layer.ffn = fields.get<std::int64_t>("ffn");
  layer.experts = fields.get<std::int64_t>("experts");
  layer.k = fields.get_or<std::int64_t>("k", 1);
  layer.x = fields.get<Floats>("x");
  layer.tokens = static_cast<std::int64_t>(layer.x.size()) / layer.hidden;
  if (layer.tokens * layer.hidden != static_cast<std::int64_t>(layer.x.size()) ||
      fields.get_or("tokens", layer.tokens) != layer.tokens) {
    fail("x has {} values of {} a token", layer.x.size(), layer.hidden);
  }
  if (fields.has("batch") || fields.has("seq")) {
    const auto tokens = fields.get<std::int64_t>("batch") * fields.get<std::int64_t>("seq");
    if (tokens != layer.tokens) fail("batch * seq = {}, x has {} tokens", tokens, layer.tokens);
  }
  layer.activation = activation_of(fields.get_or<std::string>("activation", "gelu_tanh"));
  layer.backward = fields.has("loss");
  if (layer.backward) {
    layer.aux = aux_coefficient(fields.get<std::string>("loss"));
    layer.upstream = fields.floats("R", layer.tokens * layer.hidden);
  }
  read_parameters(fields, layer);
  return layer;
}

}  // namespace imhotep::golden
