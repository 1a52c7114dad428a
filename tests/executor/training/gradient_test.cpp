// Gradients of whole models against central differences in double, for every tensor of every
// layer: the loss that is differentiated is the cross entropy plus the weighted balance loss, as
// the training step itself reports them.
//
// A training step with learning rate 0 leaves the weights alone, so it is also how the loss at
// moved weights is found. Choices of experts are not differentiable: an element whose step
// changes one is skipped, and counted.

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "executor/train/trainer.h"
#include "tests/executor/plans/tiny_text.h"
#include "tests/executor/training/tiny_models.h"

namespace imhotep::executor {
namespace {

constexpr double kTolerance = 1e-6;  // relative
constexpr double kRounding = 2e-10;  // absolute: rounding of the loss over the step
constexpr double kStep = 1e-4;       // of a five-point stencil: its error falls with h^4
#ifdef IMHOTEP_SANITIZED
constexpr int kElements = 2;  // of every tensor: sanitizers look for other mistakes, slowly
#else
constexpr int kElements = 4;
#endif
constexpr std::uint64_t kSeed = 71;

// What every gate decided in one step: the experts of its tokens and the routes it counted.
using Decisions = std::vector<double>;

class Probe {
 public:
  explicit Probe(const Plan& plan) : pool_(ranks_), trainer_(plan, Rank(0), pool_, {}) {
    trainer_.initialize();
    spread_weights();
    trainer_.runner().observe([this](const program::Operation& op, double) { note(op); });
  }

  [[nodiscard]] double loss() {
    decisions_.clear();
    const Plan& plan = trainer_.plan();
    const StepResult result = trainer_.step(0, [&](std::int64_t first, auto in, auto out) {
      test::fill_tiny_text(first, plan.workload.sequence, plan.model.vocab, in, out);
    });
    return result.loss + plan.model.router.aux_coefficient * result.aux_loss;
  }

  [[nodiscard]] const Decisions& decisions() const { return decisions_; }
  [[nodiscard]] Trainer& trainer() { return trainer_; }
  [[nodiscard]] double* region(program::BufferKind kind, int region) {
    return reinterpret_cast<double*>(trainer_.runner().region(kind, region));
  }

 private:
  // Gains 1 and biases 0 hide mistakes that only other values show.
  void spread_weights() {
    int index = 0;
    for (const Region& region : trainer_.weights().regions) {
      double* weights = this->region(program::BufferKind::Weight, index++);
      for (std::int64_t i = 0; i < region.used; ++i) {
        weights[i] += 0.1 * normal(kSeed, static_cast<std::uint64_t>(i));
      }
    }
  }

  void note(const program::Operation& op) {
    if (!std::holds_alternative<Route>(op.shape)) return;
    const Runner& runner = trainer_.runner();
    int index = 0;
    const auto inside = [&](const program::Program& p) {
      return &op >= p.operations.data() && &op < p.operations.data() + p.operations.size();
    };
    while (!inside(runner.program(index))) ++index;
    const program::Program& program = runner.program(index);
    const auto addresses = runner.memory().addresses(program);
    const auto at = [&](const program::Operand& operand) {
      return addresses[operand.buffer.value] +
             operand.offset * bytes_of(program[operand.buffer].dtype);
    };
    const auto& shape = std::get<Route>(op.shape);
    const auto* expert = reinterpret_cast<const std::int32_t*>(at(op.outputs[1]));
    const auto* counts = reinterpret_cast<const double*>(at(op.outputs[3]));
    decisions_.insert(decisions_.end(), expert, expert + shape.tokens * shape.k);
    decisions_.insert(decisions_.end(), counts, counts + shape.experts);
  }

  Bootstrap ranks_;
  CommunicatorPool pool_;
  Trainer trainer_;
  Decisions decisions_;
};

struct Score {
  std::int64_t checked = 0, skipped = 0, zero = 0, dropped = 0;
  double worst = 0;  // relative, of gradients large enough to have one
};

// The largest gradient of the tensor, one of those that are not zero, and any others.
std::vector<std::int64_t> chosen_elements(std::span<const double> gradient, std::mt19937_64& draw) {
  std::vector<std::int64_t> nonzero, chosen;
  std::int64_t largest = 0;
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    if (gradient[i] != 0) nonzero.push_back(at);
    if (std::abs(gradient[i]) > std::abs(gradient[largest])) largest = at;
  }
  chosen.push_back(largest);
  while (chosen.size() < kElements) {
    const bool any = nonzero.empty() || chosen.size() == kElements - 1;
    chosen.push_back(any ? static_cast<std::int64_t>(draw() % gradient.size())
                         : nonzero[draw() % nonzero.size()]);
  }
  return chosen;
}

void check_element(Probe& probe, double& weight, double gradient, const Decisions& usual,
                   Score& score) {
  const double before = weight;
  double slope = 0;
  bool same = true;
  for (const auto& [steps, factor] : {std::pair{-2, 1.0}, {-1, -8.0}, {1, 8.0}, {2, -1.0}}) {
    weight = before + steps * kStep;
    slope += factor * probe.loss() / (12 * kStep);
    same = same && probe.decisions() == usual;
  }
  weight = before;
  if (!same) {
    ++score.skipped;
    return;
  }
  ++score.checked;
  score.zero += gradient == 0 ? 1 : 0;
  const double size = std::max(std::abs(gradient), std::abs(slope));
  CHECK(std::abs(gradient - slope) <= kTolerance * size + kRounding);
  if (size > 1e-3) score.worst = std::max(score.worst, std::abs(gradient - slope) / size);
}

Score check_model(const Plan& plan) {
  Probe probe(plan);
  Score score;
  std::mt19937_64 draw(kSeed);
  static_cast<void>(probe.loss());
  const Decisions usual = probe.decisions();
  score.dropped = std::count(usual.begin(), usual.end(), -1.0);
  const WeightLayout& layout = probe.trainer().weights();
  std::vector<std::vector<double>> gradients;
  for (std::size_t r = 0; r < layout.regions.size(); ++r) {
    const double* data = probe.region(program::BufferKind::Gradient, static_cast<int>(r));
    gradients.emplace_back(data, data + layout.regions[r].elements);
  }
  for (std::size_t r = 0; r < layout.regions.size(); ++r) {
    double* weights = probe.region(program::BufferKind::Weight, static_cast<int>(r));
    for (const LocalTensor& tensor : layout.regions[r].tensors) {
      const std::span all(gradients[r]);
      const auto part = all.subspan(tensor.offset, tensor.elements);
      for (const std::int64_t i : chosen_elements(part, draw)) {
        const std::string name = tensor_name(tensor.role, tensor.layer, tensor.expert_begin);
        CAPTURE(name);
        CAPTURE(i);
        check_element(probe, weights[tensor.offset + i], part[i], usual, score);
      }
    }
  }
  return score;
}

}  // namespace

TEST_CASE("gradients of whole models are the slopes of their loss") {
  using enum DropPolicy;
  struct Kind {
    std::string name;
    test::TinyKind kind;
  };
  const Kind kinds[] = {
      {"dense", {}},
      {"top-1", {.experts = "4"}},
      {"residual pyramid", {.experts = "2x1,4x1", .residual = true}},
      {"top-2", {.experts = "4", .top_k = 2}},
      {"top-3", {.experts = "4x1,5x1", .top_k = 3}},
      {"random drop", {.experts = "4", .drop = Random}},
      {"residual, random drop", {.experts = "2x1,4x1", .residual = true, .drop = Random}},
      {"top-1, drop by position", {.experts = "4", .drop = Position}},
      {"top-2, drop by position", {.experts = "4", .top_k = 2, .drop = Position}},
      {"top-3, drop by probability", {.experts = "4", .top_k = 3, .drop = Probability}},
      {"top-3, drop by position", {.experts = "4", .top_k = 3, .drop = Position}},
      {"local statistics", {.experts = "4", .aux = AuxScope::Local}},
  };
  Score all;
  for (const Kind& one : kinds) {
    // Every kind with a plain step, and with recomputation over two micro-batches: of all blocks
    // or, every other kind, of every other block.
    const Recompute again = (&one - kinds) % 2 == 0 ? Recompute::Full : Recompute::Some;
    for (const Recompute recompute : {Recompute::None, again}) {
      const bool plain = recompute == Recompute::None;
      const Plan plan = test::tiny_plan(test::tiny_model(one.kind),
                                        {.accumulation = plain ? 1 : 2, .recompute = recompute});
      CAPTURE(one.name);
      CAPTURE(plain);
      const Score score = check_model(plan);
      CHECK(score.skipped * 20 <= score.checked);
      CHECK(score.zero * 4 <= score.checked);
      CHECK((score.dropped > 0) == (one.kind.drop != None));
      all.checked += score.checked;
      all.skipped += score.skipped;
      all.zero += score.zero;
      all.worst = std::max(all.worst, score.worst);
    }
  }
  MESSAGE(fmt::format(
      "seed {}: {} derivatives checked ({} of them zero), {} skipped because a route changed; "
      "largest relative difference {:.1e}",
      kSeed, all.checked, all.zero, all.skipped, all.worst));
}

}  // namespace imhotep::executor
