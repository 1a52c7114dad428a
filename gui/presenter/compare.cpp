#include "gui/presenter/compare.h"

#include <algorithm>
#include <map>

#include "gui/presenter/basics.h"
#include "gui/presenter/breakdown.h"

namespace imhotep::gui {
namespace {

QString moe_text(const Plan& plan, const MoeLayerPlan& moe) {
  return plan.world == 1 ? QString("whole")
                         : QString("%1 × %2 × %3 %4")
                               .arg(moe.expert)
                               .arg(moe.slicing)
                               .arg(moe.replica)
                               .arg(qt(name_of(moe.exchange)));
}

// One line for all layers with as many experts and equal degrees.
std::map<int, QString> experts_of(const Plan& plan) {
  std::map<int, QString> texts;
  for (const MoeLayerPlan& moe : plan.moe_layers) {
    const QString text = moe_text(plan, moe);
    QString& known = texts[moe.experts];
    if (known.isEmpty()) {
      known = text;
    } else if (!known.split("; ").contains(text)) {
      known += "; " + text;
    }
  }
  return texts;
}

std::vector<ComparedRow> rows_of(const Detail& a, const Detail& b) {
  std::vector<ComparedRow> rows;
  const auto add = [&](const QString& what, const QString& first, const QString& second) {
    if (first != second) rows.push_back({what, first, second});
  };
  const auto number = [](auto value) { return QString::number(value); };
  const Plan &x = a.plan, &y = b.plan;
  add("model", qt(x.model.name), qt(y.model.name));
  add("cluster", qt(x.cluster), qt(y.cluster));
  add("batch", number(x.workload.global_batch), number(y.workload.global_batch));
  add("ranks", number(x.world), number(y.world));
  add("tensor", number(x.tensor), number(y.tensor));
  add("data", number(x.data), number(y.data));
  add("order of ranks", qt(name_of(x.rank_order)), qt(name_of(y.rank_order)));
  add("ZeRO", number(x.zero), number(y.zero));
  add("micro-batch", number(x.micro_batch), number(y.micro_batch));
  add("accumulation", number(x.accumulation), number(y.accumulation));
  add("recomputation", qt(name_of(x.recompute)), qt(name_of(y.recompute)));
  std::map<int, QString> first = experts_of(x), second = experts_of(y);
  for (const auto& [experts, text] : first) {
    add(QString("%1 experts: e × s × r").arg(experts), text, second[experts]);
  }
  add("step", time_text(a.anatomy.step.time_us.value), time_text(b.anatomy.step.time_us.value));
  add("90 % interval",
      time_text(a.anatomy.step.time_us.low) + " .. " + time_text(a.anatomy.step.time_us.high),
      time_text(b.anatomy.step.time_us.low) + " .. " + time_text(b.anatomy.step.time_us.high));
  add("tokens a second", QString("%L1").arg(a.anatomy.step.tokens_per_s, 0, 'f', 0),
      QString("%L1").arg(b.anatomy.step.tokens_per_s, 0, 'f', 0));
  add("memory, fullest rank", bytes_text(static_cast<double>(a.memory.total())),
      bytes_text(static_cast<double>(b.memory.total())));
  return rows;
}

std::vector<Delta> class_deltas(const Detail& a, const Detail& b) {
  std::map<QString, Delta> known;
  const auto add = [&](const Detail& detail, bool first) {
    for (const Bar& bar : time_bars(detail, BreakdownBy::Class)) {
      Delta& delta = known[bar.label];
      delta.operation = bar.label;
      (first ? delta.first_us : delta.second_us) = bar.exposed_us;
    }
  };
  add(a, true);
  add(b, false);
  std::vector<Delta> deltas;
  for (const auto& [label, delta] : known) deltas.push_back(delta);
  std::stable_sort(deltas.begin(), deltas.end(), [](const Delta& x, const Delta& y) {
    return std::abs(x.change_us()) > std::abs(y.change_us());
  });
  return deltas;
}

// What of the degrees belongs to a class of operations.
QString cause_of(const QString& kind, const std::vector<ComparedRow>& rows) {
  QStringList causes;
  for (const ComparedRow& row : rows) {
    const bool experts = row.what.contains("experts");
    const bool matters =
        (kind == "exchange" || kind == "experts" || kind == "routing") ? experts
        : kind.contains("gradient") || kind == "update"
            ? row.what == "ZeRO" || row.what == "data" || row.what == "accumulation"
            : row.what == "tensor" || row.what == "micro-batch" || row.what == "recomputation";
    if (matters) causes << QString("%1 %2 instead of %3").arg(row.what, row.second, row.first);
  }
  return causes.isEmpty() ? QString() : " (" + causes.join("; ") + ")";
}

}  // namespace

Comparison compare_plans(const Detail& a, const Detail& b) {
  Comparison result{.rows = rows_of(a, b), .classes = class_deltas(a, b)};
  const double first = a.anatomy.step.time_us.value, second = b.anatomy.step.time_us.value;
  const double change = first > 0 ? 100 * (second / first - 1) : 0;
  const double tokens_a = a.anatomy.step.tokens_per_s, tokens_b = b.anatomy.step.tokens_per_s;
  if (a.hash == b.hash) {
    result.verdict = "A and B are the same plan.";
  } else {
    result.verdict = QString(
                         "A step of B takes %1 instead of %2 (%3%4 %); B does %5 times the "
                         "tokens a second of A.")
                         .arg(time_text(second), time_text(first), change < 0 ? "−" : "+")
                         .arg(std::abs(change), 0, 'f', 1)
                         .arg(tokens_a > 0 ? tokens_b / tokens_a : 0, 0, 'f', 2);
  }
  for (const Delta& delta : result.classes) {
    if (result.reasons.size() >= 4 || std::abs(delta.change_us()) < 0.002 * first) break;
    result.reasons << QString("%1: %2 %3 exposed time in B, %4 instead of %5%6.")
                          .arg(delta.operation, time_text(std::abs(delta.change_us())),
                               delta.change_us() < 0 ? "less" : "more", time_text(delta.second_us),
                               time_text(delta.first_us), cause_of(delta.operation, result.rows));
  }
  for (const auto& d : planner::differences(a.anatomy.step, b.anatomy.step)) {
    result.operations.push_back(
        {QString(qt(d.operation)).replace('_', ' ') + ", " + qt(d.pass), d.first_us, d.second_us});
  }
  return result;
}

MeasuredComparison compare_measured(const Detail& detail) {
  const RunReport& report = *detail.report;
  MeasuredComparison result;
  const simulator::StepPrice& step = detail.anatomy.step;
  result.rows.push_back({.operation = "step",
                         .pass = qt(report.phase),
                         .predicted_us = step.time_us.value,
                         .low_us = step.time_us.low,
                         .high_us = step.time_us.high,
                         .measured_us = report.measured_us});
  for (const OperationTime& row : report.operations) {
    MeasuredRow out{.operation = QString(qt(row.operation)).replace('_', ' '),
                    .pass = qt(row.pass),
                    .measured_us = row.measured_us};
    if (row.operation == "unaccounted") {
      out.operation = "in no operation";
      out.predicted_us = out.low_us = out.high_us = step.overhead_us;
      out.source = "measured";
    }
    for (const simulator::OperationTotal& total : step.operations) {
      if (total.name != row.operation || program::pass_name(total.pass) != row.pass) continue;
      out.predicted_us = total.time_us;
      out.low_us = total.low_us;
      out.high_us = total.high_us;
      out.source = source_label(static_cast<int>(total.source));
    }
    result.rows.push_back(out);
  }
  std::stable_sort(result.rows.begin() + 1, result.rows.end(), [](const auto& a, const auto& b) {
    return std::abs(a.predicted_us - a.measured_us) > std::abs(b.predicted_us - b.measured_us);
  });
  const MeasuredRow& whole = result.rows.front();
  result.verdict =
      QString("Predicted %1, measured %2: error %3%4 %, %5 the 90 % interval %6 .. %7.")
          .arg(time_text(whole.predicted_us), time_text(whole.measured_us),
               whole.error() < 0 ? "−" : "+")
          .arg(100 * std::abs(whole.error()), 0, 'f', 1)
          .arg(whole.within() ? "within" : "outside", time_text(whole.low_us),
               time_text(whole.high_us));
  return result;
}

}  // namespace imhotep::gui
