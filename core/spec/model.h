#pragma once
// What a Pyramid-Residual MoE transformer is: a pre-LayerNorm GPT with learned positions, biases,
// tanh-GELU, a feed-forward of 4 x hidden, a tied head, and experts in chosen blocks.
// Source: DeepSpeed-MoE (arXiv 2201.05596), sections 3 and 4; counting rule in parameters.h.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/enum_names.h"
#include "core/base/fields.h"
#include "core/base/shapes.h"

namespace imhotep {

// Experts of successive MoE slots, written as people write them: "32x10,64x2" is ten slots of 32
// experts and two of 64; "128" is one count for every slot; a slot of 0 is a dense block.
struct ExpertList {
  std::vector<int> slots;
  [[nodiscard]] static ExpertList parse(std::string_view text);  // Throws: Error(Input)
  [[nodiscard]] std::string text() const;
  bool operator==(const ExpertList&) const = default;
};

enum class AuxScope : std::uint8_t {
  Global,  // balance statistics over the whole micro-batch of all ranks: independent of degrees
  Local,   // each rank's own tokens, as DeepSpeed does
};

struct RouterSpec {
  DropPolicy drop = DropPolicy::None;  // in training; evaluation and serving are dropless
  double capacity_factor = 1.0;        // used unless dropless
  int min_capacity = 4;
  double aux_coefficient = 0.01;
  AuxScope aux = AuxScope::Global;

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("drop", s.drop, {.help = "which routes beyond the capacity survive", .optional = true});
    visit("capacity_factor", s.capacity_factor,
          {.help = "slots per expert / even share", .optional = true, .minimum = 0.01});
    visit("min_capacity", s.min_capacity, {.help = "fewest slots", .optional = true, .minimum = 1});
    visit("aux_coefficient", s.aux_coefficient,
          {.help = "weight of the balance loss", .optional = true, .minimum = 0});
    visit("aux", s.aux, {.help = "whose tokens the balance loss counts", .optional = true});
  }
  bool operator==(const RouterSpec&) const = default;
};

struct ModelSpec {
  std::string name;
  int layers = 0;
  int hidden = 0;
  int heads = 0;
  int vocab = 50257;
  int context = 2048;
  ExpertList experts;    // empty or "0": a dense model
  int moe_interval = 2;  // blocks interval, 2*interval, ... (counted from 1) are MoE slots
  int top_k = 1;
  bool residual = false;
  double init_std = 0.014;
  RouterSpec router;

  [[nodiscard]] int ffn() const { return 4 * hidden; }
  [[nodiscard]] int head_dim() const { return hidden / heads; }
  [[nodiscard]] int padded_vocab() const { return (vocab + 127) / 128 * 128; }
  // Experts of block `layer` (from 0); 0 for a dense block.
  [[nodiscard]] int experts_at(int layer) const;
  [[nodiscard]] int moe_layers() const;

  template <class Self, class Visitor>
  static void fields(Self& s, Visitor& visit) {
    visit("name", s.name, {.help = "catalogue name"});
    visit("layers", s.layers, {.help = "transformer blocks", .minimum = 1, .maximum = 1000});
    visit("hidden", s.hidden, {.help = "model width", .minimum = 8, .maximum = 65536});
    visit("heads", s.heads, {.help = "attention heads", .minimum = 1});
    visit("vocab", s.vocab,
          {.help = "words; padded to 128", .optional = true, .minimum = 2, .maximum = 1 << 24});
    visit("context", s.context,
          {.help = "learned positions", .optional = true, .minimum = 1, .maximum = 1 << 24});
    visit("experts", s.experts, {.help = "experts per MoE slot: 32x10,64x2", .optional = true});
    visit("moe_interval", s.moe_interval,
          {.help = "every n-th block is an MoE slot", .optional = true, .minimum = 1});
    visit("top_k", s.top_k, {.help = "experts a token", .optional = true, .minimum = 1});
    visit("residual", s.residual, {.help = "mix a fixed MLP with the expert", .optional = true});
    visit("init_std", s.init_std, {.help = "initial weights", .optional = true, .minimum = 0});
    visit("router", s.router, {.help = "gating in training", .optional = true});
  }
  bool operator==(const ModelSpec&) const = default;
};

inline constexpr const char* kModelSchema = "imhotep.model/1";

// Throws: Error(Input) with file, line and path; also where the fields contradict each other
// (heads that do not divide hidden, more routes than experts, slots that do not fit the depth).
[[nodiscard]] ModelSpec read_model(const std::string& file);
void check(const ModelSpec& model);
void write_model(const ModelSpec& model, const std::string& file);

}  // namespace imhotep

IMHOTEP_ENUM_NAMES(imhotep::DropPolicy, {imhotep::DropPolicy::None, "none"},
                   {imhotep::DropPolicy::Random, "random"},
                   {imhotep::DropPolicy::Probability, "probability"},
                   {imhotep::DropPolicy::Position, "position"})
IMHOTEP_ENUM_NAMES(imhotep::AuxScope, {imhotep::AuxScope::Global, "global"},
                   {imhotep::AuxScope::Local, "local"})
