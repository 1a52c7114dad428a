#pragma once
// Efficiency between measured points. A table holds, for one family, variant and dtype, the ratio
// of measured time to a roofline; the ratio varies slowly where time varies over decades. Between
// points a plane is fitted to the logarithms of the nearest ones in log key space, near ones
// weighing most; it may leave their range by a quarter of it, but not that of the table. Beyond the
// measured box the key is moved to the nearest edge. The 90 % interval comes from leaving out each
// point of the table in turn, together with all that are nearer than the points at hand, and with
// all of its value of a key where that value was never measured: a shape far from what is known
// gets the error of such shapes.
//
// Sources: W. Cleveland, "Robust locally weighted regression" (1979); split conformal quantile of
// leave-one-out residuals, Barber et al. (2021). Derivation: docs/cost/interpolation.md.

#include <array>
#include <memory>
#include <mutex>
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

// For several threads. Copies share what is computed at first use.
class RatioTable {
 public:
  struct Point {
    Key key{};
    double ratio = 1;
    double spread = 0;  // interquartile range / median of the samples
  };
  using Mask = std::vector<bool>;  // by point: true leaves it out

  // Requires: at least one point; ratios and keys positive.
  RatioTable(const std::vector<Point>& points, int keys);

  // With `left_out`: from the other points only, for cross-validation.
  // Requires: that some point stays.
  [[nodiscard]] Ratio at(const Key& key, const Mask* left_out = nullptr) const;
  [[nodiscard]] std::size_t size() const { return points_.size(); }
  // Median |log(predicted / measured)| of up to 200 points, each predicted from the others.
  [[nodiscard]] double typical_error() const;
  // |log(predicted / measured)| of each point predicted from the others, ascending.
  [[nodiscard]] const std::vector<double>& residuals() const { return residuals_of(0).errors; }

 private:
  static constexpr int kNearest = 12;
  static constexpr int kRadii = 5;
  struct LogPoint {
    Key octaves{};  // as measured
    Key key{};      // in the table's own measure
    double log_ratio = 0, spread = 0;
  };
  // A key counts more in distances, or goes on as its product with another one.
  struct Step {
    int key = 0, other = -1;
    double factor = 1;
  };
  struct Near {
    double square = 0;
    const LogPoint* point = nullptr;
  };
  using Nearest = std::array<Near, kNearest>;  // ascending; null where there are fewer
  struct Blend {
    double log_ratio = 0;
    double octaves = 0;  // distance of the nearest point
    const LogPoint* nearest = nullptr;
  };
  struct Residuals {
    std::once_flag once;
    double octaves = 0;          // typical distance of the nearest point that was left
    std::vector<double> errors;  // ascending
  };
  // Each computed at first use: by radius, and with all points of one value of a key left out.
  struct Widths {
    std::array<Residuals, kRadii> near;
    std::array<Residuals, kMostKeys> unseen;
  };
  [[nodiscard]] Nearest nearest(const Key& key, double radius, const Mask* left_out) const;
  [[nodiscard]] Blend blend(const Key& key, double radius, const Mask* left_out = nullptr) const;
  [[nodiscard]] double plane(const Key& key, const Nearest& near) const;
  [[nodiscard]] Key inside(Key octaves, double& octaves_beyond) const;
  [[nodiscard]] Key measured(Key octaves) const;
  [[nodiscard]] const Residuals& residuals_of(int radius) const;
  void compute(Residuals& all, double radius) const;
  void compute_without(Residuals& all, int key) const;
  [[nodiscard]] double width_at(double octaves) const;
  [[nodiscard]] double width_of_unseen(const Key& octaves, const Mask* left_out) const;
  [[nodiscard]] const std::vector<double>& residuals_without(int key) const;
  void choose_measure();
  void take(const Step& step);

  std::vector<LogPoint> points_;
  int keys_ = 0;
  std::vector<Step> measure_;  // taken one after the other
  Key lowest_{}, highest_{};
  double least_ = 0, most_ = 0;  // of the logarithms of the ratios
  std::shared_ptr<Widths> widths_ = std::make_shared<Widths>();
};

// The half-width that holds a new residual with 90 % probability when it is exchangeable with
// `sorted` ones; wider than any of them when they are too few to say.
[[nodiscard]] double ninety_percent(const std::vector<double>& sorted);

// Half-width, as a logarithm, of the 90 % interval of a repeated measurement with this spread.
[[nodiscard]] double noise_of(double spread);

}  // namespace imhotep::profiles
