#pragma once
// Efficiency between measured points. A table holds, for one family, variant and dtype, the ratio
// of measured time to a roofline; the ratio varies slowly where time varies over decades. Between
// points it is the weighted geometric mean of the nearest points in log key space (inverse squared
// distance), so it always lies between theirs; beyond the measured box the key is moved to the
// nearest edge. The 90 % interval comes from leaving out each point of the table in turn.
// Source: D. Shepard, "A two-dimensional interpolation function for irregularly-spaced data"
// (1968); interval: split conformal quantile of leave-one-out residuals, Barber et al. (2021).
// Derivation: docs/cost/interpolation.md.

#include <vector>

#include "profiles/description.h"

namespace imhotep::profiles {

struct Ratio {
  double value = 1;          // measured time / roofline
  double low = 1, high = 1;  // 90 % interval
  bool exact = false;        // a measured point (within kSameKeyOctaves)
  bool outside = false;      // beyond the measured box
};

inline constexpr double kSameKeyOctaves = 1e-6;  // 4352 and 4353 rows are two tilings

class RatioTable {
 public:
  struct Point {
    Key key{};
    double ratio = 1;
    double spread = 0;  // interquartile range / median of the samples
  };
  // Requires: at least one point; ratios and keys positive.
  RatioTable(const std::vector<Point>& points, int keys);

  [[nodiscard]] Ratio at(const Key& key) const;
  [[nodiscard]] std::size_t size() const { return points_.size(); }
  // |log(predicted / measured)| of each point predicted from the others, ascending.
  [[nodiscard]] const std::vector<double>& residuals() const;

 private:
  struct LogPoint {
    Key key{};
    double log_ratio = 0, spread = 0;
  };
  struct Blend {
    double log_ratio = 0;
    double octaves = 0;  // distance of the nearest point
    const LogPoint* nearest = nullptr;
  };
  [[nodiscard]] Blend blend(const Key& log_key, const LogPoint* left_out) const;
  [[nodiscard]] Key inside(Key log_key, double& octaves_beyond) const;

  std::vector<LogPoint> points_;
  int keys_ = 0;
  Key lowest_{}, highest_{};
  mutable std::vector<double> residuals_;  // computed at first use
};

// The half-width that holds a new residual with 90 % probability when it is exchangeable with
// `sorted` ones; wider than any of them when they are too few to say.
[[nodiscard]] double ninety_percent(const std::vector<double>& sorted);

// Half-width, as a logarithm, of the 90 % interval of a repeated measurement with this spread.
[[nodiscard]] double noise_of(double spread);

}  // namespace imhotep::profiles
