#pragma once
// Rewrites the operations of a program into what another system runs in their place: other shapes,
// more of them, or none, and the calls its host makes. The program keeps its operations, so that
// names, dependencies and blocks stay what planner and screens know.

#include <array>
#include <map>
#include <optional>
#include <vector>

#include "core/program/program.h"
#include "core/spec/plan.h"
#include "simulator/styles/style.h"

namespace imhotep::simulator {

struct StyledPart {
  program::Shape shape;
  double times = 1;
  std::optional<program::Shape> or_else;  // taken where it is faster
};

struct StyledOperation {
  std::vector<StyledPart> parts;  // none: nothing happens here
  double calls = 0;               // of the host
  bool waits = false;             // the host waits for this operation
};

class Restyler {
 public:
  Restyler(const program::Program& program, const Plan& plan);

  // `loaded`: the operation's shape as the busiest rank meets it.
  [[nodiscard]] StyledOperation at(const program::Operation& operation,
                                   const program::Shape& loaded);

 private:
  // Slots of one MoE layer on one rank.
  struct Slots {
    double tokens = 0, experts = 0, capacity = 0;  // of a mask
    double groups = 1;                             // masks
    double sent = 0;                               // by this rank in an exchange
    double local = 1;                              // experts held here
    double rows = 0;                               // of one expert here, from all sources
    [[nodiscard]] double mask() const { return groups * tokens * experts * capacity; }
  };
  const Slots& slots_of(int layer);
  [[nodiscard]] double calls_of(const program::Operation& operation) const;
  [[nodiscard]] std::vector<StyledPart> routed(const program::Operation& operation,
                                               const program::Shape& loaded);
  [[nodiscard]] std::vector<StyledPart> experts(const GroupedGemm& shape, const Slots& s) const;

  const program::Program& program_;
  const Plan& plan_;
  const StyleTraits& traits_;
  std::map<int, Slots> slots_;
};

// Bytes that a rank needs in this style beside those of the program; 0 for imhotep.
[[nodiscard]] std::int64_t style_bytes(const Plan& plan);

}  // namespace imhotep::simulator
