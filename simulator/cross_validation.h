#pragma once
// How well a profile predicts what it did not measure: every shape is left out in turn and priced
// from the rest, as the simulator prices a shape that it never saw.

#include <string>
#include <vector>

#include "core/spec/cluster.h"
#include "profiles/profile.h"

namespace imhotep::simulator {

// A measured point beside what the others say of it.
struct HeldOut {
  double measured_us = 0, predicted_us = 0, low_us = 0, high_us = 0;
  bool outside = false;  // beyond what was left in some key: could only be extrapolated
  std::string what;      // "gemm nt (64, 256, 256)"; empty for steps
  [[nodiscard]] double error() const;  // |predicted / measured - 1|
  [[nodiscard]] bool inside() const { return low_us <= measured_us && measured_us <= high_us; }
};

struct Accuracy {
  std::size_t points = 0;
  double median = 0, p90 = 0;  // of |predicted / measured - 1|
  double coverage = 0;         // share of points inside their 90 % interval
};
[[nodiscard]] Accuracy accuracy_of(const std::vector<HeldOut>& points);

struct FamilyAccuracy {
  std::string family;     // "gemm", "all_reduce"
  std::string left_out;   // keys whose values were left out together: "n, k"; "bytes"
  std::size_t alone = 0;  // points that had no others to be told from
  Accuracy accuracy;
  Accuracy inside_grid;        // of the points that were not outside
  std::vector<HeldOut> worst;  // by error, as many as asked for
};

struct CrossValidationOptions {
  // For every family: keys whose joint values make one group, which is left out as a whole. Where
  // a family is not named: gemm and norm_gemm "n,k", all others all of their keys.
  std::vector<std::string> left_out;  // "gemm:n,k"
  std::size_t most_points = 2000;     // of a table, evenly taken from it
  std::size_t worst = 0;              // points to name in every family
};

// Of every family of the profile that has a table of at least two points, in the order of the
// catalogue, collectives last. Variants and dtypes are judged by themselves and counted together.
// Throws: Error(Input) for a family or key that does not exist.
[[nodiscard]] std::vector<FamilyAccuracy> cross_validate(const profiles::Profile& profile,
                                                         const CrossValidationOptions& options);

}  // namespace imhotep::simulator
