#include "gui/presenter/breakdown.h"

#include <algorithm>
#include <map>

#include "core/base/units.h"
#include "gui/presenter/basics.h"

namespace imhotep::gui {
namespace {

QString layer_label(const Plan& plan, int layer) {
  if (layer < 0) return "outside the blocks";
  const MoeLayerPlan* moe = plan.moe(layer);
  return moe == nullptr ? QString("block %1, dense").arg(layer)
                        : QString("block %1, %2 experts").arg(layer).arg(moe->experts);
}

Bar* find(std::vector<Bar>& bars, const QString& label) {
  for (Bar& bar : bars) {
    if (bar.label == label) return &bar;
  }
  return &bars.emplace_back(Bar{.label = label});
}

}  // namespace

std::vector<Bar> time_bars(const Detail& detail, BreakdownBy by) {
  std::vector<Bar> bars;
  std::vector<OperationPart> parts = detail.parts;
  if (by == BreakdownBy::Layer) {
    std::stable_sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) {
      return (a.layer < 0 ? 1 << 20 : a.layer) < (b.layer < 0 ? 1 << 20 : b.layer);
    });
  }
  for (const OperationPart& part : parts) {
    for (int s = 0; s < 4; ++s) {
      if (by == BreakdownBy::Source && part.by_source_us[s] <= 0) continue;
      if (by != BreakdownBy::Source && s > 0) continue;
      const QString label = by == BreakdownBy::Class   ? QString(planner::class_name(part.kind))
                            : by == BreakdownBy::Layer ? layer_label(detail.plan, part.layer)
                                                       : source_label(s);
      Bar& bar = *find(bars, label);
      if (by == BreakdownBy::Source) {
        const double total = part.exposed_us + part.hidden_us;
        const double share = total > 0 ? part.by_source_us[s] / total : 0;
        bar.exposed_us += share * part.exposed_us;
        bar.hidden_us += share * part.hidden_us;
        bar.by_source_us[s] += part.by_source_us[s];
        continue;
      }
      bar.exposed_us += part.exposed_us;
      bar.hidden_us += part.hidden_us;
      for (int i = 0; i < 4; ++i) bar.by_source_us[i] += part.by_source_us[i];
    }
  }
  if (by != BreakdownBy::Layer) {
    std::stable_sort(bars.begin(), bars.end(),
                     [](const Bar& a, const Bar& b) { return a.total_us() > b.total_us(); });
  }
  for (Bar& bar : bars) {
    for (const planner::ClassShare& share : detail.anatomy.classes) {
      if (bar.label == planner::class_name(share.kind))
        bar.bound = planner::bound_name(share.bound());
    }
  }
  if (detail.anatomy.step.overhead_us > 0) {
    bars.push_back({.label = "in no operation", .exposed_us = detail.anatomy.step.overhead_us});
  }
  return bars;
}

std::vector<MemoryPart> memory_parts(const Detail& detail) {
  constexpr const char* kNames[program::kBufferKinds] = {
      "weights",         "gradients",
      "optimizer state", "KV cache",
      "inputs",          "activations, exchange, scratch",
      "exchange",        "scratch",
      "workspace",       "libraries and page ends"};
  std::vector<MemoryPart> parts;
  for (int kind = 0; kind < program::kBufferKinds; ++kind) {
    const auto bytes = static_cast<double>(detail.memory.by_kind[kind]);
    if (bytes > 0) parts.push_back({kNames[kind], bytes});
  }
  std::stable_sort(parts.begin(), parts.end(),
                   [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
  return parts;
}

QString breakdown_summary(const Detail& detail) {
  QString text = qt(planner::what_binds(detail.anatomy));
  if (!text.isEmpty()) text[0] = text[0].toUpper();
  double total = 0, by_source[4] = {0, 0, 0, 0};
  for (const OperationPart& part : detail.parts) {
    for (int s = 0; s < 4; ++s) {
      by_source[s] += part.by_source_us[s];
      total += part.by_source_us[s];
    }
  }
  QStringList sources;
  for (int s = 0; s < 4 && total > 0; ++s) {
    if (by_source[s] <= 0) continue;
    sources << QString("%1 % %2").arg(100 * by_source[s] / total, 0, 'f', 0).arg(source_label(s));
  }
  return text + ". Numbers: " + sources.join(", ") + " (" + detail.prices + ").";
}

QString source_label(int source) {
  const std::string_view name = simulator::source_name(static_cast<simulator::Source>(source));
  return QString::fromUtf8(name.data(), static_cast<qsizetype>(name.size()));
}

QString time_text(double time_us) {
  if (std::abs(time_us) < 0.005) return "0";  // would be written as 0.00 us
  return qt(format_time(time_us)).replace(" us", " µs");
}

QString estimate_text(const Estimate& estimate) {
  return QString("%1 (%2 .. %3)")
      .arg(time_text(estimate.value), time_text(estimate.low), time_text(estimate.high));
}

QString bytes_text(double bytes) {
  if (bytes == 0) return "0 B";
  return qt(format_bytes(bytes));
}

}  // namespace imhotep::gui
