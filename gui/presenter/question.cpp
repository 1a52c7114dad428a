#include "gui/presenter/question.h"

#include <algorithm>
#include <filesystem>

#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "gui/presenter/basics.h"
#include "profiles/catalogue.h"

namespace imhotep::gui {
namespace {

constexpr const char* kQuestionSchema = "imhotep.gui-question/1";

bool on_processors(const ClusterSpec& cluster) { return cluster.device.kind == DeviceKind::Cpu; }

template <class T>
bool same(const T& a, const T& b) {
  return json_of(a) == json_of(b);
}

template <class T, class Find>
QString named_or_file(const T& spec, const QString& file, const char* schema, Find find,
                      RepeatedCommand& out) {
  try {
    if (same(find(spec.name), spec)) return qt(spec.name);
  } catch (const Error&) {
    // Not in the catalogue: a file says what it is.
  }
  out.files.emplace_back(file, document_of(spec, schema).dump(2) + "\n");
  return file;
}

QString quoted(const QString& word) {
  static const QRegularExpression kSafe("^[A-Za-z0-9_./=,:+-]+$");
  if (kSafe.match(word).hasMatch()) return word;
  return "'" + QString(word).replace("'", "'\\''") + "'";
}

}  // namespace

Question default_question(const ModelSpec& model, const ClusterSpec& cluster, WorkloadKind kind) {
  Question asked{.model = model, .cluster = cluster};
  const bool processors = on_processors(cluster), trains = kind == WorkloadKind::Training;
  Workload& work = asked.workload;
  const std::int64_t context = model.context;
  work.kind = kind;
  work.global_batch = processors ? 8 : trains ? 512 : 128;
  work.sequence = std::min<std::int64_t>(context, processors ? 256 : 2048);
  work.prompt = std::min<std::int64_t>(128, std::max<std::int64_t>(1, context / 2));
  work.output = std::clamp<std::int64_t>(context - work.prompt, 1, 128);
  asked.goal.dtype = processors ? Dtype::F32 : Dtype::Bf16;
  asked.goal.objective = planner::default_objective(kind);
  return asked;
}

Question question_of(const Plan& plan) {
  const ClusterSpec cluster = profiles::find_cluster(plan.cluster.empty() ? "local" : plan.cluster);
  Question asked = default_question(plan.model, cluster, plan.workload.kind);
  asked.workload = plan.workload;
  asked.goal.gpus = plan.world;
  asked.goal.dtype = plan.dtype;
  return asked;
}

Question sample_question() {
  Question asked =
      default_question(profiles::find_model("1.3b-pr-moe-64-128"),
                       profiles::find_cluster("azure-nd-a100-v4"), WorkloadKind::Training);
  asked.goal.gpus = 32;
  asked.workload.global_batch = 256;
  return asked;
}

planner::Request request_of(const Question& question) {
  constexpr int kMostProcessorRanks = 1024;
  check(question.model);
  const ClusterSpec& cluster = question.cluster;
  const int most = on_processors(cluster) ? kMostProcessorRanks : cluster.devices();
  if (question.goal.gpus > most) {
    fail_input("gpus {}: {} has {}; possible: 1 to {}", question.goal.gpus, cluster.name,
               format_items(cluster.devices(), "device"), most);
  }
  planner::Request request{.model = question.model,
                           .cluster = cluster,
                           .workload = question.workload,
                           .dtype = question.goal.dtype};
  request.worlds = question.goal.gpus > 0 ? std::vector<int>{question.goal.gpus}
                                          : planner::default_worlds(cluster);
  if (!question.goal.fix.empty()) {
    request.fixed = planner::parse_fixed_degrees(question.goal.fix, question.model);
  }
  return request;
}

std::string question_text(const Question& question) {
  return document_of(question, kQuestionSchema).dump();
}

Question parse_question(const std::string& text, const std::string& name) {
  return read_document<Question>(JsonDocument::parse(text, name), kQuestionSchema);
}

RepeatedCommand command_of(const Question& question) {
  RepeatedCommand out;
  const Workload& work = question.workload;
  QStringList words = {"imhotep", "plan"};
  words << named_or_file(question.model, "model.json", kModelSchema, profiles::find_model, out);
  words << "--cluster"
        << named_or_file(question.cluster, "cluster.json", kClusterSchema, profiles::find_cluster,
                         out);
  if (question.goal.gpus > 0) words << "--gpus" << QString::number(question.goal.gpus);
  Workload usual = work;
  usual.optimizer = {};
  usual.routing = {};
  if (same(usual, work)) {
    const bool trains = work.kind == WorkloadKind::Training;
    words << (trains ? "--training" : "--generation") << "--batch"
          << QString::number(work.global_batch);
    if (trains) {
      words << "--sequence" << QString::number(work.sequence);
    } else {
      words << "--prompt" << QString::number(work.prompt) << "--output"
            << QString::number(work.output);
    }
  } else {
    words << "--workload"
          << "workload.json";
    out.files.emplace_back("workload.json", document_of(work, kWorkloadSchema).dump(2) + "\n");
  }
  words << "--objective" << qt(name_of(question.goal.objective));
  words << "--dtype" << qt(name_of(question.goal.dtype));
  if (!question.goal.fix.empty()) words << "--fix" << qt(question.goal.fix);
  if (!question.goal.profile.empty()) words << "--profile" << qt(question.goal.profile);
  for (QString& word : words) word = quoted(word);
  out.command = words.join(' ');
  return out;
}

QString describe(const Workload& work) {
  if (work.kind == WorkloadKind::Training) {
    return QString("training, %1 sequences of %2 tokens a step")
        .arg(work.global_batch)
        .arg(work.sequence);
  }
  return QString("generation, %1 sequences at once, %2 + %3 tokens each")
      .arg(work.global_batch)
      .arg(work.prompt)
      .arg(work.output);
}

}  // namespace imhotep::gui
