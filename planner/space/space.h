#pragma once
// All legal plans of a request. A plan is a frame (world, tensor, data, micro-batch split), a
// variant of it (recomputation, ZeRO stage) and one choice of degrees and exchange for every kind
// of MoE layer. The plans of a frame form a grid, so that millions of them need no memory: a
// candidate is an index, and becomes a Plan when somebody wants to read it.

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
  // ZeRO-1 needs somebody to divide the state with; choices of a fixed stage are always legal.
  [[nodiscard]] bool legal(const Candidate& candidate) const;
  [[nodiscard]] bool divides_always(const Frame& frame, const Variant& variant) const {
    return variant.zero == 0 || frame.data > 1 || request_.fixed.zero.has_value();
  }
  [[nodiscard]] Plan plan(const Candidate& candidate) const;
  // World, tensor and data degree, device and dtype alone; no MoE layers yet.
  [[nodiscard]] Plan frame_plan(int world, int tensor) const;

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
