#include "gui/presenter/plan_set.h"

#include <algorithm>
#include <limits>

#include "core/base/units.h"
#include "gui/presenter/basics.h"

namespace imhotep::gui {

QString Column::text(double value) const {
  if (!std::isfinite(value)) return "–";
  switch (kind) {
    case Kind::Time:
      return qt(format_time(value)).replace(" us", " µs");
    case Kind::Bytes:
      return qt(format_bytes(value));
    case Kind::Rate:
      return qt(format_count(value)) + "/s";
    case Kind::Money:
      return QString::number(value, 'g', 4);
    case Kind::Choice: {
      const int index = rounded(value);
      return index >= 0 && index < choices.size() ? choices[index] : QString("?");
    }
    case Kind::Count:
      break;
  }
  return QString::number(value, 'g', 12);
}

Column::Unit Column::unit_for(double largest) const {
  const auto choose = [largest](std::initializer_list<Unit> units) {
    Unit chosen = *units.begin();
    for (const Unit& unit : units) {
      if (largest * unit.scale >= 2) chosen = unit;
    }
    return chosen;
  };
  switch (kind) {
    case Kind::Time:
      return choose({{"µs", 1}, {"ms", 1e-3}, {"s", 1e-6}});
    case Kind::Bytes:
      return choose({{"B", 1}, {"kB", 1e-3}, {"MB", 1e-6}, {"GB", 1e-9}, {"TB", 1e-12}});
    case Kind::Rate:
      return choose(
          {{"per second", 1}, {"thousand per second", 1e-3}, {"million per second", 1e-6}});
    case Kind::Money:
      return {"per million tokens", 1};
    default:
      return {"", 1};
  }
}

int PlanSet::index_of(const QString& name) const {
  for (int i = 0; i < count_of(columns); ++i) {
    if (columns[i].name == name) return i;
  }
  return -1;
}

const Column* PlanSet::find(const QString& name) const {
  const int index = index_of(name);
  return index < 0 ? nullptr : &columns[index];
}

double PlanSet::value(const QString& name, std::int64_t row) const {
  const Column* column = find(name);
  if (column == nullptr || row < 0 || row >= size()) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  return column->values[row];
}

const Interval* PlanSet::interval(std::int64_t row) const {
  const auto found =
      std::lower_bound(intervals.begin(), intervals.end(), row,
                       [](const Interval& interval, std::int64_t r) { return interval.row < r; });
  return found != intervals.end() && found->row == row ? &*found : nullptr;
}

bool PlanSet::fits(std::int64_t row) const { return value("fits", row) == 1; }

bool PlanSet::priced_only(std::int64_t row) const { return value("fits", row) == kPricedOnly; }

QString PlanSet::title(std::int64_t row) const {
  if (row < 0 || row >= size()) return {};
  const auto number = [&](const char* name) { return QString::number(value(name, row)); };
  if (priced_only(row)) {
    const bool stages = find("stages") != nullptr;
    return QString(stages ? "%1 devices in %2 pipeline stages: priced only, cannot be run"
                          : "%1 devices, %2 of them for prompts: priced only, cannot be run")
        .arg(number("gpus"), number(stages ? "stages" : "prompt_gpus"));
  }
  QString text =
      QString("%1 %2: tensor %3 × data %4")
          .arg(number("gpus"), question.cluster.device.kind == DeviceKind::Cuda ? "GPUs" : "ranks",
               number("tensor"), number("data"));
  for (const Column& column : columns) {
    if (!column.name.startsWith("expert")) continue;
    const QString kind = column.name.mid(6);
    const auto part = [&](const char* name) {
      const Column* other = find(name + kind);
      return other == nullptr ? QString("?") : other->text(other->values[row]);
    };
    text += QString(", experts%1 %2 × %3 × %4 %5")
                .arg(kind.isEmpty() ? "" : " (" + kind.mid(1) + ")", part("expert"),
                     part("slicing"), part("replica"), part("exchange"));
  }
  return text;
}

namespace {

// Few rows of many: those below the least value of every bin before theirs. All of the front are
// among them, so that only few need to be sorted.
std::vector<std::int64_t> candidates(const std::vector<std::int64_t>& rows, const double* x,
                                     const double* y) {
  constexpr std::size_t kBins = 1024, kFew = 4096;
  if (rows.size() < kFew) return rows;
  double low = INFINITY, high = -INFINITY;
  for (const std::int64_t row : rows) {
    low = std::min(low, x[row]);
    high = std::max(high, x[row]);
  }
  const double scale = high > low ? (kBins - 1) / (high - low) : 0;
  const auto bin = [&](std::int64_t row) {
    return static_cast<std::size_t>((x[row] - low) * scale);
  };
  std::vector<double> least(kBins, INFINITY);
  for (const std::int64_t row : rows) least[bin(row)] = std::min(least[bin(row)], y[row]);
  for (std::size_t i = 1; i < kBins; ++i) least[i] = std::min(least[i], least[i - 1]);
  std::vector<std::int64_t> few;
  for (const std::int64_t row : rows) {
    const std::size_t own = bin(row);
    if (own == 0 || y[row] < least[own - 1]) few.push_back(row);
  }
  return few;
}

}  // namespace

std::vector<std::int64_t> pareto_front(const PlanSet& plans, int first, int second,
                                       const std::vector<std::int64_t>& allowed) {
  const Column &x = plans.columns[first], &y = plans.columns[second];
  // Less is better in both.
  std::vector<double> costs[2];
  for (const auto& [column, cost] : {std::pair{&x, &costs[0]}, std::pair{&y, &costs[1]}}) {
    *cost = column->values;
    if (column->more_is_better) {
      for (double& value : *cost) value = -value;
    }
  }
  const double *a = costs[0].data(), *b = costs[1].data();
  std::vector<std::int64_t> rows;
  for (const std::int64_t row : allowed) {
    if (std::isfinite(a[row]) && std::isfinite(b[row])) rows.push_back(row);
  }
  rows = candidates(rows, a, b);
  std::sort(rows.begin(), rows.end(), [&](std::int64_t r, std::int64_t s) {
    return a[r] != a[s] ? a[r] < a[s] : b[r] != b[s] ? b[r] < b[s] : r < s;
  });
  std::vector<std::int64_t> front;
  double least = std::numeric_limits<double>::infinity();
  for (const std::int64_t row : rows) {
    if (b[row] >= least) continue;
    least = b[row];
    front.push_back(row);
  }
  if (x.more_is_better) std::reverse(front.begin(), front.end());
  return front;
}

std::vector<std::int64_t> usable_rows(const PlanSet& plans,
                                      const std::vector<std::int64_t>& among) {
  const Column* fits = plans.find("fits");
  const bool limited = !(plans.question.limits == Limits{});
  std::vector<std::int64_t> rows;
  for (const std::int64_t row : among) {
    if (fits->values[row] == 1 && (!limited || within_limits(plans, row))) rows.push_back(row);
  }
  return rows;
}

bool within_limits(const PlanSet& plans, std::int64_t row) {
  const Limits& limits = plans.question.limits;
  const auto over = [&](const char* name, double limit) {
    return limit > 0 && plans.value(name, row) > limit;
  };
  if (over("time", limits.time_us) || over("prompt", limits.prompt_us)) return false;
  if (over("memory", limits.memory_bytes) || over("cost", limits.cost_per_mtoken)) return false;
  return !(limits.tokens_per_s > 0 && plans.value("tokens", row) < limits.tokens_per_s);
}

}  // namespace imhotep::gui
