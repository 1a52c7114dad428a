#pragma once
// All legal plans of a request. A plan is a frame (world, tensor, data, rank order, micro-batch
// split), a variant of it (recomputation, ZeRO stage) and one choice of degrees and exchange for
// every kind of MoE layer. The plans of a frame form a grid, so that millions of them need no
// memory: a candidate is an index, and becomes a Plan when somebody wants to read it.

#include <cstdint>
#include <string>
#include <vector>

#include "planner/space/request.h"

namespace imhotep::planner {

// MoE layers that always share their degrees: same experts, same fixed degrees.
struct LayerKind {
  int experts = 0;
  std::vector<int> layers;                   // blocks, from 0
  int expert = 0, slicing = 0, replica = 0;  // fixed by hand; 0: free
};

inline constexpr std::size_t kMostKinds = 64;

struct LayerChoice {
  int expert = 1, slicing = 1, replica = 1;
  ExchangeAlgorithm exchange = ExchangeAlgorithm::Flat;
  std::int64_t receive_rows = 0;
};

struct Frame {
  int world = 1, tensor = 1, data = 1;
  RankOrder rank_order = RankOrder::Consecutive;
  std::int64_t micro_batch = 1, accumulation = 1;
  std::vector<std::vector<LayerChoice>> choices;  // by kind
  std::uint64_t combinations = 1;                 // product of the numbers of choices
};

struct Variant {
  Recompute recompute = Recompute::None;
  int zero = 0;
};

struct Candidate {
  std::uint64_t combination = 0;  // mixed radix: the first kind varies fastest
  std::int32_t frame = 0;
  Variant variant;
  bool operator==(const Candidate& other) const {
    return combination == other.combination && frame == other.frame &&
           variant.recompute == other.variant.recompute && variant.zero == other.variant.zero;
  }
};

// What every layer does by itself, beside its frame and ZeRO stage.
struct LayerChoices {
  std::vector<std::uint32_t> choice;  // by layer, of its kind; dense blocks: unused
  std::vector<bool> recompute;        // by layer
};

using Count = unsigned __int128;
[[nodiscard]] std::string count_text(Count count);  // decimal

class Space {
 public:
  // Throws: Error(Input) when no plan is legal, with the nearest possible degrees.
  explicit Space(Request request);

  [[nodiscard]] const Request& request() const { return request_; }
  [[nodiscard]] const std::vector<LayerKind>& kinds() const { return kinds_; }
  [[nodiscard]] const std::vector<Frame>& frames() const { return frames_; }
  [[nodiscard]] const std::vector<Variant>& variants() const { return variants_; }
  [[nodiscard]] Count size() const;

  [[nodiscard]] const LayerChoice& choice(const Candidate& candidate, std::size_t kind) const;
  // ZeRO-1 needs somebody to divide the state with, and strided placement somebody to place
  // otherwise; choices made by hand are always legal.
  [[nodiscard]] bool legal(const Candidate& candidate) const;
  // Every combination of the frame is legal; else those are in which some choice is decisive.
  [[nodiscard]] bool legal_always(const Frame& frame, const Variant& variant) const {
    if (places(frame)) return false;
    return variant.zero == 0 || frame.data > 1 || request_.fixed.zero.has_value();
  }
  [[nodiscard]] bool decisive(const Frame& frame, const LayerChoice& choice) const {
    return choice.replica > 1 && (choice.expert > 1 || !places(frame));
  }
  [[nodiscard]] Plan plan(const Candidate& candidate) const;
  [[nodiscard]] Plan plan(std::int32_t frame, int zero, const LayerChoices& layers) const;
  [[nodiscard]] int kind_of(int layer) const;  // -1 for a dense block
  // World, tensor and data degree, rank order, device and dtype alone; no MoE layers yet.
  [[nodiscard]] Plan frame_plan(int world, int tensor, RankOrder order) const;

  template <class Visit>
  void for_each(Visit visit) const {
    for (std::size_t f = 0; f < frames_.size(); ++f) {
      for (const Variant& variant : variants_) {
        Candidate candidate{.frame = static_cast<std::int32_t>(f), .variant = variant};
        for (; candidate.combination < frames_[f].combinations; ++candidate.combination) {
          if (legal(candidate)) visit(candidate);
        }
      }
    }
  }

 private:
  void find_kinds();
  [[nodiscard]] bool places(const Frame& frame) const {
    return frame.rank_order == RankOrder::Strided && !request_.fixed.rank_order;
  }
  [[nodiscard]] std::vector<RankOrder> rank_orders(int world) const;
  void add_world(int world);
  void add_frames(const Plan& degrees, const std::vector<std::vector<LayerChoice>>& choices);
  [[nodiscard]] std::vector<LayerChoice> layer_choices(const Plan& degrees,
                                                       const LayerKind& kind) const;
  [[noreturn]] void fail_empty() const;

  Request request_;
  std::vector<LayerKind> kinds_;
  std::vector<Frame> frames_;
  std::vector<Variant> variants_;
};

}  // namespace imhotep::planner
