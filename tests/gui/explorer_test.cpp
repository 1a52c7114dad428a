#include <doctest/doctest.h>

#include <QFile>
#include <QSignalSpy>
#include <set>

#include "core/base/error.h"
#include "core/base/json_document.h"
#include "core/base/json_fields.h"
#include "gui/presenter/basics.h"
#include "gui/presenter/child.h"
#include "gui/presenter/form.h"
#include "gui/presenter/run_log.h"
#include "gui/presenter/search_file.h"
#include "gui/presenter/session.h"
#include "gui/presenter/what_if.h"
#include "profiles/catalogue.h"
#include "tests/gui/samples.h"

namespace imhotep::gui {
namespace {

// Every field of a schema that is no list, as a path.
void list_paths(const Json& schema, const QString& path, std::set<QString>& paths) {
  if (!schema.contains("properties")) {
    const bool list = schema.contains("type") && schema["type"] == "array";
    if (!list) paths.insert(path);
    return;
  }
  for (const auto& [key, value] : schema["properties"].items()) {
    list_paths(value, path.isEmpty() ? qt(key) : path + "." + qt(key), paths);
  }
}

TEST_CASE("the form has a line for every field of the field lists") {
  std::set<QString> expected, found;
  list_paths(schema_of<Question>(), "", expected);
  for (const FormField& field : form_of(small_question())) found.insert(field.path);
  CHECK(found == expected);
}

TEST_CASE("every line of the form can be set to what it shows") {
  const Question asked = small_question();
  for (const FormField& field : form_of(asked)) {
    INFO(field.path.toStdString(), " = ", field.value.toStdString());
    CHECK(question_text(with_field(asked, field.path, field.value)) == question_text(asked));
  }
}

TEST_CASE("a wrong value is refused with field, expectation and text") {
  const Question asked = small_question();
  const auto said = [&](const char* path, const char* text) -> std::string {
    try {
      (void)with_field(asked, path, text);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  CHECK(said("workload.global_batch", "zero") ==
        "workload.global_batch: expected a whole number >= 1, got \"zero\"");
  CHECK(said("workload.global_batch", "0").find(">= 1") != std::string::npos);
  CHECK(said("goal.objective", "speed").find("latency") != std::string::npos);
  CHECK(said("model.experts", "32x").find("32x") != std::string::npos);
  CHECK(with_field(asked, "cluster.device.memory_bytes", "40GiB").cluster.device.memory_bytes ==
        std::int64_t{40} << 30);
}

TEST_CASE("the command line repeats the question") {
  const RepeatedCommand plain_command = command_of(small_question());
  CHECK(plain_command.files.empty());
  CHECK(plain_command.command ==
        "imhotep plan 350m-pr-moe-32-64 --cluster azure-nd-a100-v4 --gpus 8 --training --batch 16 "
        "--sequence 512 --objective throughput --dtype bf16 --profile none");
  Question odd = small_question();
  odd.model.hidden = 512;
  odd.model.heads = 8;
  odd.workload.routing.kind = RoutingKind::Zipf;
  odd.workload.routing.skew = 0.5;
  const RepeatedCommand with_files = command_of(odd);
  REQUIRE(with_files.files.size() == 2);
  CHECK(with_files.command.contains("model.json"));
  CHECK(with_files.command.contains("--workload workload.json"));
  const QTemporaryDir folder;
  write_text_file(folder.filePath("model.json").toStdString(), with_files.files[0].second);
  CHECK(read_model(folder.filePath("model.json").toStdString()) == odd.model);
}

TEST_CASE("undo returns the same plan") {
  Explorer explorer;
  explorer.ask(small_question(), "ask");
  REQUIRE(settles(explorer));
  const std::string first = explorer.detail()->hash;
  explorer.edit("goal.fix", "tensor=8");
  REQUIRE(settles(explorer));
  const std::string second = explorer.detail()->hash;
  CHECK(first != second);
  explorer.set_knob(Knob::Batch, 32);
  explorer.set_knob(Knob::Batch, 64);
  CHECK(explorer.history().count() == 2);  // steps of one slider are one edit
  explorer.history().undo();
  CHECK(explorer.knobs() == knobs_of(explorer.question()));
  explorer.history().undo();
  REQUIRE(settles(explorer));
  CHECK(explorer.detail()->hash == first);
  explorer.history().redo();
  REQUIRE(settles(explorer));
  CHECK(explorer.detail()->hash == second);
}

TEST_CASE("a question that cannot be asked leaves everything as it was") {
  Explorer explorer;
  explorer.ask(small_question(), "ask");
  REQUIRE(settles(explorer));
  const std::string before = question_text(explorer.question());
  CHECK_THROWS_AS(explorer.edit("goal.gpus", "100000"), Error);
  CHECK_THROWS_AS(explorer.edit("model.heads", "7"), Error);
  CHECK(question_text(explorer.question()) == before);
  CHECK(explorer.history().count() == 0);
}

TEST_CASE("broken files are told about and change nothing") {
  Explorer explorer;
  explorer.ask(small_question(), "ask");
  REQUIRE(settles(explorer));
  const std::string before = explorer.detail()->hash;
  const QTemporaryDir folder;
  const std::string good = plan_text(explorer.detail()->plan);
  const std::pair<const char*, std::string> kFiles[] = {
      {"empty.json", ""},
      {"cut.json", good.substr(0, good.size() / 2)},
      {"list.json", "[1, 2]"},
      {"other.json", R"({"schema": "someone.else/1"})"},
      {"twice.json", R"({"schema": "imhotep.plan/1", "schema": "imhotep.plan/1"})"},
      {"binary.json", std::string("\0\1\2\xff", 4)},
      {"degrees.json",
       std::string(good).replace(good.find("\"tensor\":"), 9, "\"tensor\":3, \"x\":")}};
  for (const auto& [name, text] : kFiles) {
    const QString file = folder.filePath(name);
    write_text_file(file.toStdString(), text);
    QSignalSpy told(&explorer, &Explorer::told);
    explorer.open(file);
    REQUIRE(happens([&] { return !told.isEmpty(); }));
    INFO(name, ": ", told.first().first().toString().toStdString());
    CHECK(told.first().at(1).toBool());
    CHECK(told.first().first().toString().contains(name));
  }
  QSignalSpy told(&explorer, &Explorer::told);
  explorer.open(folder.filePath("absent.json"));
  REQUIRE(happens([&] { return !told.isEmpty(); }));
  CHECK(explorer.detail()->hash == before);
  CHECK(explorer.recent_files().isEmpty());
}

TEST_CASE("a plan file is found among its plans, and read again when it changes") {
  const Plans plans = small_plans();
  Question asked = small_question();
  const Prices prices = prices_of(asked);
  const std::int64_t row = plans->best == 3 ? 4 : 3;
  const Plan plan = plan_of(*plans, row, prices);
  const QTemporaryDir folder;
  const QString file = folder.filePath("plan.json");
  write_plan(plan, plain(file));
  Explorer explorer;
  explorer.open(file);
  REQUIRE(settles(explorer));
  CHECK(explorer.detail()->hash == plan_hash(plan));
  CHECK(explorer.recent_files() == QStringList{file});
  const Plan other = plan_of(*plans, row + 1, prices);
  write_plan(other, plain(file));
  REQUIRE(
      happens([&] { return explorer.detail() && explorer.detail()->hash == plan_hash(other); }));
}

TEST_CASE("a plan made with another profile is said to be") {
  const Question asked = small_question();
  const Prices prices = prices_of(asked);
  Plan plan = plan_of(*small_plans(), small_plans()->best, prices);
  plan.predicted.profile = "somewhere else";
  plan.predicted.profile_hash = "0123456789abcdef";
  const Detail detail = examine(plan, prices, std::nullopt, Stop());
  CHECK(detail.warning.contains("somewhere else"));
  CHECK(detail.warning.contains("roofline"));
}

TEST_CASE("a report opens its plan and lies beside the prediction") {
  const Question asked = small_question();
  const Plan plan = plan_of(*small_plans(), small_plans()->best, prices_of(asked));
  const QTemporaryDir folder;
  const QString file = folder.filePath("report.json");
  write_report(sample_report(plan, prices_of(asked)), plain(file));
  Explorer explorer;
  explorer.open(file);
  REQUIRE(settles(explorer));
  REQUIRE(explorer.detail()->report.has_value());
  CHECK(explorer.detail()->hash == plan_hash(plan));
}

TEST_CASE("searches and sessions open as they were saved") {
  const QTemporaryDir folder;
  write_search(*small_plans(), folder.filePath("all.search"));
  Explorer explorer;
  explorer.open(folder.filePath("all.search"));
  REQUIRE(settles(explorer));
  CHECK(explorer.plans()->size() == small_plans()->size());
  CHECK(explorer.selected() == small_plans()->best);
  Session session{.question = small_generation()};
  session.filter = "tensor<=2";
  session.knobs = {8, 64, 0, 1, 8, 3};
  write_session(session, folder.filePath("a.session"));
  QSignalSpy opened(&explorer, &Explorer::session_opened);
  explorer.open(folder.filePath("a.session"));
  REQUIRE(happens([&] { return !opened.isEmpty(); }));
  CHECK(question_text(explorer.question()) == question_text(session.question));
  CHECK(explorer.knobs()[5] == 3);
}

TEST_CASE("what if answers as a new question would") {
  const Question asked = small_question();
  const KnobValues own = knobs_of(asked);
  const Outcome same = ask(asked, own, Stop());
  REQUIRE(same.found);
  CHECK(same.plan == outcome_of(*small_plans(), own).plan);
  CHECK(same.time_us == doctest::Approx(small_plans()->value("time", small_plans()->best)));
  KnobValues dear = own;
  dear[static_cast<std::size_t>(Knob::Price)] = 2 * own[static_cast<std::size_t>(Knob::Price)];
  if (same.cost_per_mtoken > 0) {
    CHECK(ask(asked, dear, Stop()).cost_per_mtoken == doctest::Approx(2 * same.cost_per_mtoken));
  }
  KnobValues impossible = own;
  impossible[static_cast<std::size_t>(Knob::Gpus)] = 7;
  const Outcome none = ask(asked, impossible, Stop());
  CHECK((none.found || !none.error.isEmpty()));
  for (int k = 0; k < kKnobs; ++k) {
    const auto stops = knob_stops(asked, static_cast<Knob>(k));
    CHECK(std::is_sorted(stops.begin(), stops.end()));
    CHECK(std::find(stops.begin(), stops.end(), own[static_cast<std::size_t>(k)]) != stops.end());
  }
}

TEST_CASE("of several what-if questions the newest wins") {
  Explorer explorer;
  explorer.ask(small_question(), "ask");
  REQUIRE(settles(explorer));
  for (const double batch : {32.0, 64.0, 128.0}) explorer.set_knob(Knob::Batch, batch);
  REQUIRE(happens([&] {
    return explorer.what_if() && explorer.what_if()->values[0] == 128 && !explorer.what_if()->first;
  }));
  KnobValues slower = knobs_of(small_question());
  slower[static_cast<std::size_t>(Knob::Links)] = 0.25;
  const std::optional<Outcome> first = ask_quickly(*small_plans(), slower, Stop());
  const Outcome whole = ask(small_question(), slower, Stop());
  REQUIRE(first.has_value());
  CHECK(first->first);
  // Of other plans than the whole answer, and so a little better or worse.
  CHECK(first->tokens_per_s == doctest::Approx(whole.tokens_per_s).epsilon(0.2));
}

TEST_CASE("a run's log is read in any pieces, and broken lines are counted") {
  const QByteArray text =
      "{\"step\": 1, \"loss\": 8.5, \"step_us\": 1000, \"tokens_per_s\": 10}\n"
      "nonsense\n"
      "{\"step\": 2, \"loss\": 8.1, \"step_us\": 900, \"tokens_per_s\": 11}\n"
      "{\"step\": 2, \"held_out_loss\": 8.2}\n"
      "{\"step\": 2, \"expert_load\": [[0.25, 0.75], [0.5, 0.3, 0.2]]}\n"
      "{\"step\": 2, \"loss\": 8.0, \"step_us\": 900, \"tokens_per_s\": 11}\n";
  for (const int size : {1, 7, 1000}) {
    RunLog log;
    for (qsizetype at = 0; at < text.size(); at += size) log.add(text.mid(at, size));
    REQUIRE(log.steps().size() == 2);
    CHECK(log.steps()[1].loss == 8.0);
    CHECK(log.held_out().size() == 1);
    REQUIRE(log.load().has_value());
    CHECK(log.load()->step == 2);
    CHECK(log.load()->shares == std::vector<std::vector<double>>{{0.25, 0.75}, {0.5, 0.3, 0.2}});
    CHECK(log.broken_lines() == 1);
  }
}

struct Ending {
  bool well = false;
  QString message;
};
Ending run_child(Child& child, const QString& script, const QString& folder, bool stop = false) {
  Ending ending;
  bool over = false;
  QObject::connect(&child, &Child::ended, [&](bool well, const QString& message) {
    ending = {well, message};
    over = true;
  });
  child.start_program("/bin/sh", {"-c", script}, folder);
  if (stop) {
    REQUIRE(happens([&] { return child.is_running(); }));
    child.stop(300);
  }
  REQUIRE(happens([&] { return over; }));
  return ending;
}

TEST_CASE("a child's log, words and end arrive; failing and hanging ones are survived") {
  const QTemporaryDir folder;
  {
    Child child;
    QStringList said;
    QObject::connect(&child, &Child::said, [&](const QString& line) { said << line; });
    const Ending ending =
        run_child(child, "echo hello >&2; echo '{\"step\": 1, \"loss\": 2}' > log.jsonl; echo '{}'",
                  QDir::currentPath());
    CHECK(ending.well);
    CHECK(said.contains("hello"));
    CHECK(child.log().steps().size() == 1);
    CHECK(child.output().trimmed() == "{}");
    QFile::remove("log.jsonl");
  }
  Child failing;
  const Ending failed = run_child(failing, "echo no >&2; exit 3", folder.path());
  CHECK(!failed.well);
  CHECK(failed.message.contains("3"));
  Child hanging;
  const Ending killed =
      run_child(hanging, "trap '' INT; while true; do sleep 0.1; done", folder.path(), true);
  CHECK(!killed.well);
  Child absent;
  QString message;
  QObject::connect(&absent, &Child::ended, [&](bool, const QString& text) { message = text; });
  absent.start_program("/nowhere/imhotep", {}, "");
  REQUIRE(happens([&] { return !message.isEmpty(); }));
  CHECK(message.contains("cannot be started"));
}

}  // namespace
}  // namespace imhotep::gui
