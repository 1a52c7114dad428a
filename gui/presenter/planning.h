#pragma once
// The one place that asks planner and simulator: from a question to its plans, from a row to a
// whole plan, from a plan to everything that the views show of it. Runs on any thread; nothing is
// shared.

#include <functional>
#include <optional>
#include <vector>

#include "core/spec/report.h"
#include "gui/presenter/plan_set.h"
#include "gui/presenter/stop.h"
#include "planner/explain/anatomy.h"
#include "planner/search/search.h"
#include "profiles/profile.h"
#include "simulator/step.h"

namespace imhotep::gui {

struct Prices {
  ClusterSpec cluster;
  std::shared_ptr<const simulator::Simulator> simulator;  // to be copied, and the copy asked
  std::string key;                                        // which tables these are
  QString text;     // "profile NAME of DATE", or that there is none
  QString warning;  // when a plan was made with other prices
};
// Reads a profile once and as often as a file changes. On any thread.
// Throws: Error(Missing) for a profile that is not there.
[[nodiscard]] Prices prices_of(const Question& question);
// What a copy has learned is known to the next who asks for these prices.
void remember(const Prices& prices, const simulator::Simulator& simulator);
// The profile behind them, read anew; none: roofline.
[[nodiscard]] std::optional<profiles::Profile> profile_of(const Question& question);

inline constexpr std::int64_t kMostPlans = 1'000'000;

struct ExploreOptions {
  std::int64_t most = kMostPlans;  // of larger spaces the best by objective are kept
  int finalists = 9;               // built and simulated whole before the best one is named
  int front = 24;                  // plans of the front that are simulated for their intervals
  bool priced_only = false;        // rows of what can be priced but not run, too
  std::function<void(double)> progress;  // 0 to 1
};
// Every legal plan with its time and memory, as sums of the planner's memoised parts, exact in time
// where communication never overlaps computation. The best ones are simulated whole.
// Throws: Error(Input) when no plan is legal. A stopped search returns what it has.
[[nodiscard]] PlanSet explore(const Question& question, const Prices& prices, const Stop& stop,
                              const ExploreOptions& options = {});

// Adds what can be priced but not run, on as many devices as the best plan has: pipeline stages, or
// devices of their own for prompts. In such a row "fits" is kPricedOnly, so that it is never the
// best and never on the front; degrees that it has not are not finite.
void add_priced_rows(PlanSet& plans);

// The whole plan of a row, with its prediction. Throws: Error(Failed) when the row's degrees are no
// plan of its question.
[[nodiscard]] Plan plan_of(const PlanSet& plans, std::int64_t row, const Prices& prices);
// The same without a prediction.
[[nodiscard]] Plan bare_plan_of(const PlanSet& plans, std::int64_t row);
// The row with the degrees of a plan; -1 when there is none.
[[nodiscard]] std::int64_t row_of(const PlanSet& plans, const Plan& plan);

// One stretch of a stream.
struct Slice {
  double start_us = 0, duration_us = 0;
  int name = 0;  // into Track::names
  std::int16_t layer = -1;
  std::uint8_t kind = 0;  // planner::OperationClass
  program::Pass pass = program::Pass::Forward;
  bool critical = false;
};

struct Track {
  QString title;  // "predicted · compute"
  bool measured = false;
  std::vector<Slice> slices;  // by start, none over another
};

struct Timing {
  std::vector<QString> names;
  std::vector<Track> tracks;
  double end_us = 0;
  QString note;  // how measured slices were placed; what was left out
};

struct OperationPart {  // of one layer and class
  int layer = -1;
  planner::OperationClass kind{};
  double exposed_us = 0, hidden_us = 0;
  double by_source_us[4] = {0, 0, 0, 0};  // simulator::Source
};

// Everything about one plan.
struct Detail {
  Plan plan;
  std::string hash;
  program::MemoryUse memory;
  int fullest = 0;
  std::int64_t limit_bytes = 0;
  Verdict verdict;
  planner::Anatomy anatomy;
  std::vector<OperationPart> parts;
  Timing timing;
  std::optional<RunReport> report;
  QString prices, warning;
};
using Details = std::shared_ptr<const Detail>;

// `report`: what a run of this plan measured; its median times are laid over the predicted order.
[[nodiscard]] Detail examine(const Plan& plan, const Prices& prices,
                             const std::optional<RunReport>& report, const Stop& stop);

}  // namespace imhotep::gui
