#include "gui/presenter/what_if.h"

#include <QElapsedTimer>
#include <QRegularExpression>
#include <algorithm>

#include "core/base/error.h"
#include "core/base/units.h"
#include "gui/presenter/basics.h"

namespace imhotep::gui {
namespace {

bool trains(const Question& question) { return question.workload.kind == WorkloadKind::Training; }

std::int64_t whole(double value) { return std::max<std::int64_t>(1, std::llround(value)); }

double& at(KnobValues& values, Knob knob) { return values[static_cast<std::size_t>(knob)]; }
double at(const KnobValues& values, Knob knob) { return values[static_cast<std::size_t>(knob)]; }

void add_powers(std::vector<double>& stops, double from, double to) {
  for (double value = from; value <= to; value *= 2) stops.push_back(value);
}

}  // namespace

const KnobInfo& knob_info(Knob knob) {
  static const std::array<KnobInfo, kKnobs> kInfos = {{
      {"batch", "Batch", "sequences", "sequences a step, or at once"},
      {"context", "Context", "tokens", "tokens of a training sequence, or of a prompt"},
      {"skew", "Routing skew", "", "0: every expert gets the same"},
      {"links", "Link speed", "times", "factor on the bandwidth inside and between nodes"},
      {"gpus", "Devices", "devices", "devices of the plan"},
      {"price", "Price", "per device and hour", "money; changes cost only"},
  }};
  return kInfos[static_cast<std::size_t>(knob)];
}

KnobValues knobs_of(const Question& question) {
  const Workload& work = question.workload;
  const int gpus = question.goal.gpus > 0 ? question.goal.gpus : question.cluster.devices();
  return {static_cast<double>(work.global_batch),
          static_cast<double>(trains(question) ? work.sequence : work.prompt),
          work.routing.kind == RoutingKind::Zipf ? work.routing.skew : 0,
          1,
          static_cast<double>(gpus),
          question.cluster.price_per_device_hour};
}

std::vector<double> knob_stops(const Question& question, Knob knob) {
  const double own = at(knobs_of(question), knob);
  std::vector<double> stops = {own};
  switch (knob) {
    case Knob::Batch:
      add_powers(stops, std::max(1.0, std::exp2(std::floor(std::log2(own / 16)))), own * 16);
      break;
    case Knob::Context: {
      const auto most = static_cast<double>(question.model.context -
                                            (trains(question) ? 0 : question.workload.output));
      add_powers(stops, 16, most);
      stops.push_back(most);
      break;
    }
    case Knob::Skew:
      for (int i = 0; i <= 15; ++i) stops.push_back(i / 10.0);
      break;
    case Knob::Links:
      for (const double factor : {0.1, 0.25, 0.5, 0.75, 1.5, 2.0, 4.0, 8.0}) {
        stops.push_back(factor);
      }
      break;
    case Knob::Gpus:
      add_powers(stops, 1, question.cluster.devices());
      stops.push_back(question.cluster.devices());
      break;
    case Knob::Price:
      for (const double price : {0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0}) {
        stops.push_back(price);
      }
      break;
  }
  std::sort(stops.begin(), stops.end());
  stops.erase(std::unique(stops.begin(), stops.end()), stops.end());
  std::erase_if(stops, [](double value) { return value < 0; });
  return stops;
}

Question with_knobs(Question question, const KnobValues& values) {
  const KnobValues own = knobs_of(question);
  const auto changed = [&](Knob knob) { return at(values, knob) != at(own, knob); };
  Workload& work = question.workload;
  if (changed(Knob::Batch)) work.global_batch = whole(at(values, Knob::Batch));
  if (changed(Knob::Context)) {
    (trains(question) ? work.sequence : work.prompt) = whole(at(values, Knob::Context));
  }
  if (changed(Knob::Skew)) {
    const double skew = at(values, Knob::Skew);
    work.routing.kind = skew > 0 ? RoutingKind::Zipf : RoutingKind::Uniform;
    work.routing.skew = skew;
    work.routing.histograms.clear();
  }
  question.cluster.intra.bytes_per_us *= at(values, Knob::Links);
  question.cluster.inter.bytes_per_us *= at(values, Knob::Links);
  if (changed(Knob::Gpus)) question.goal.gpus = static_cast<int>(whole(at(values, Knob::Gpus)));
  question.cluster.price_per_device_hour = at(values, Knob::Price);
  return question;
}

QString knob_text(Knob knob, double value) {
  if (knob == Knob::Skew) return QString("Zipf exponent %1").arg(value);
  if (knob == Knob::Price && value == 0) return "unknown";
  if (knob == Knob::Links) return QString("× %1").arg(value, 0, 'g', 3);
  return QString("%1 %2").arg(QString::number(value, 'g', 6), knob_info(knob).unit);
}

Outcome outcome_of(const PlanSet& plans, const KnobValues& values) {
  Outcome outcome{.values = values, .plans = plans.size(), .seconds = plans.seconds};
  for (std::int64_t row = 0; row < plans.size(); ++row) {
    outcome.fitting += plans.columns[plans.index_of("fits")].values[row] == 1 ? 1 : 0;
    if (row > 10'000 && outcome.fitting > 0) break;
  }
  if (plans.best < 0) {
    outcome.error = plans.size() == 0 ? "no plan" : "no plan fits and keeps to the limits";
    return outcome;
  }
  outcome.found = true;
  outcome.plan = plans.title(plans.best);
  const auto value = [&](const char* name) {
    const double held = plans.value(name, plans.best);
    return std::isfinite(held) ? held : 0.0;
  };
  outcome.time_us = value("time");
  outcome.prompt_us = value("prompt");
  outcome.tokens_per_s = value("tokens");
  outcome.memory_bytes = value("memory");
  outcome.cost_per_mtoken = value("cost");
  return outcome;
}

Outcome ask(const Question& question, const KnobValues& values, const Stop& stop) {
  try {
    const Question changed = with_knobs(question, values);
    const PlanSet plans = explore(changed, prices_of(changed), stop, {.most = 200'000, .front = 0});
    return outcome_of(plans, values);
  } catch (const Error& error) {
    Outcome outcome{.values = values};
    outcome.error = qt(error.what());
    return outcome;
  }
}

std::optional<Outcome> ask_quickly(const PlanSet& plans, const KnobValues& values,
                                   const Stop& stop) {
  constexpr std::int64_t kMost = 16;
  const KnobValues own = knobs_of(plans.question);
  if (at(values, Knob::Gpus) != at(own, Knob::Gpus) || plans.best < 0) return std::nullopt;
  QElapsedTimer timer;
  timer.start();
  try {
    const Question changed = with_knobs(plans.question, values);
    std::optional<Outcome> best;
    const Prices prices = prices_of(changed);
    const simulator::Simulator simulator(*prices.simulator);
    std::int64_t asked = 0;
    for (std::int64_t row = 0; row < std::min(kMost, plans.size()) && !stop.requested(); ++row) {
      if (!plans.fits(row)) break;
      Plan plan = bare_plan_of(plans, row);
      plan.workload = changed.workload;
      if (plan.workload.kind == WorkloadKind::Training) {
        const std::int64_t share = plan.micro_batch * plan.data;
        if (plan.workload.global_batch % share != 0) continue;
        plan.accumulation = plan.workload.global_batch / share;
      }
      if (!check_degrees(plan).feasible) continue;
      const std::int64_t limit = planner::rank_memory_bytes(prices.cluster, plan.world);
      const planner::RankedPlan ranked =
          planner::measure_memory(plan, limit, prices.cluster.device.libraries);
      if (!ranked.verdict.feasible) continue;
      ++asked;
      const Prediction predicted = simulator.predict(plan);
      if (best && predicted.tokens_per_s <= best->tokens_per_s) continue;
      best = Outcome{.values = values, .found = true, .plan = plans.title(row), .first = true};
      best->time_us = predicted.time_us.value;
      best->prompt_us = predicted.prompt_us.value;
      best->tokens_per_s = predicted.tokens_per_s;
      best->memory_bytes = static_cast<double>(ranked.memory.total());
      best->cost_per_mtoken = predicted.cost_per_mtoken;
    }
    if (best) {
      best->plans = best->fitting = asked;
      best->seconds = static_cast<double>(timer.nsecsElapsed()) / 1e9;
    }
    return best;
  } catch (const Error&) {
    return std::nullopt;  // the whole answer says why
  }
}

QString change_of_plan(const QString& before, const QString& after) {
  static const QRegularExpression kBetween(", |: ");
  const QStringList a = before.split(kBetween), b = after.split(kBetween);
  const bool none = before.startsWith("none: ") || after.startsWith("none: ");
  if (none || a.size() != b.size()) return before + " → " + after;
  QStringList changes;
  for (int i = 0; i < count_of(a); ++i) {
    if (a[i] == b[i]) continue;
    // "experts (64) 4 × 4 × 1 flat → 32 × 1 × 1 flat": which experts is said once.
    const qsizetype named = a[i].startsWith("experts") ? a[i].indexOf(") ") + 2 : 0;
    const bool once = named > 1 && b[i].left(named) == a[i].left(named);
    changes << a[i] + " → " + (once ? b[i].mid(named) : b[i]);
  }
  return changes.join("; ");
}

double change_percent(const Outcome& base, const Outcome& other) {
  if (!base.found || !other.found || base.tokens_per_s <= 0) return 0;
  return 100 * (other.tokens_per_s / base.tokens_per_s - 1);
}

Sensitivities sensitivities(const Question& question, const KnobValues& values, const Stop& stop,
                            const std::function<void(double)>& progress) {
  Sensitivities all{.base = ask(question, values, stop)};
  for (int k = 0; k < kKnobs; ++k) {
    const auto knob = static_cast<Knob>(k);
    const double own = at(values, knob);
    std::vector<double> near;
    for (const double value : knob_stops(question, knob)) {
      const bool half_to_double = knob == Knob::Skew ? value <= own + 0.8 && value >= own - 0.8 &&
                                                           rounded(value * 10) % 2 == 0
                                                     : value >= own / 2 && value <= own * 2;
      if (half_to_double && value != own) near.push_back(value);
    }
    Sensitivity found{.knob = knob, .low = all.base, .high = all.base};
    std::vector<Outcome> outcomes = {all.base};
    for (const double value : near) {
      if (stop.requested()) return all;
      KnobValues changed = values;
      at(changed, knob) = value;
      outcomes.push_back(ask(question, changed, stop));
    }
    std::sort(outcomes.begin(), outcomes.end(), [&](const Outcome& a, const Outcome& b) {
      return at(a.values, knob) < at(b.values, knob);
    });
    found.low = outcomes.front();
    found.high = outcomes.back();
    for (std::size_t i = 1; i < outcomes.size(); ++i) {
      const Outcome &a = outcomes[i - 1], &b = outcomes[i];
      if (a.plan == b.plan) continue;
      const auto said = [](const Outcome& o) { return o.found ? o.plan : "none: " + o.error; };
      QString from = knob_text(knob, at(a.values, knob));
      const QString unit = QString(" ") + knob_info(knob).unit;
      if (from.endsWith(unit)) from.chop(unit.size());
      found.flips.push_back(QString("%1 between %2 and %3: %4")
                                .arg(knob_info(knob).label, from,
                                     knob_text(knob, at(b.values, knob)),
                                     change_of_plan(said(a), said(b))));
    }
    all.knobs.push_back(found);
    if (progress) progress(static_cast<double>(k + 1) / kKnobs);
  }
  std::stable_sort(all.knobs.begin(), all.knobs.end(), [&](const auto& a, const auto& b) {
    const auto swing = [&](const Sensitivity& s) {
      return std::abs(change_percent(all.base, s.high) - change_percent(all.base, s.low));
    };
    return swing(a) > swing(b);
  });
  return all;
}

}  // namespace imhotep::gui
