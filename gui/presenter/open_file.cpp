#include "gui/presenter/open_file.h"

#include <QFileInfo>

#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "gui/presenter/basics.h"
#include "gui/presenter/search_file.h"
#include "profiles/profile.h"

namespace imhotep::gui {
namespace {

bool is_search_file(const QString& file) {
  QFile in(file);
  return in.open(QIODevice::ReadOnly) && in.read(14) == "IMHOTEP SEARCH";
}

}  // namespace

void write_session(const Session& session, const QString& file) {
  write_text_file(plain(file), document_of(session, kSessionSchema).dump(2) + "\n");
}

Session parse_session(const std::string& text, const std::string& name) {
  return read_document<Session>(JsonDocument::parse(text, name), kSessionSchema);
}

Opened open_any(const QString& file) {
  constexpr qint64 kMostBytes = qint64{1} << 30;
  const std::string name = plain(file);
  const QFileInfo info(file);
  if (info.isDir()) fail_input("{}: this is a folder; open a file in it", name);
  if (is_search_file(file)) return std::make_shared<const PlanSet>(read_search(file));
  if (info.size() > kMostBytes) fail_input("{}: {} bytes are too many", name, info.size());
  const std::string text = read_text_file(name);
  const JsonDocument document = JsonDocument::parse(text, name);
  const Json& body = document.value();
  if (!body.is_object()) document.fail_at("$", "expected an object");
  if (!body.contains("schema") && body.contains("search")) {
    if (!body.contains("plan")) fail_input("{}: this answer holds no feasible plan", name);
    return parse_plan(body["plan"].dump(), name);
  }
  const auto schema = body.find("schema");
  const std::string tag =
      schema != body.end() && schema->is_string() ? schema->get<std::string>() : "";
  if (tag == kPlanSchema) return parse_plan(text, name);
  if (tag == kReportSchema) return read_report(name);
  if (tag == kModelSchema) return read_model(name);
  if (tag == kClusterSchema) return read_cluster(name);
  if (tag == kWorkloadSchema) return read_workload(name);
  if (tag == kSessionSchema) return parse_session(text, name);
  if (tag == "imhotep.profile/1") {
    return ProfileFile{file, qt(profiles::parse_profile(text, name).name)};
  }
  document.fail_at("$.schema",
                   "expected a plan, report, model, cluster, workload, profile, search or session" +
                       (tag.empty() ? std::string(", got none of them") : ", got \"" + tag + "\""));
}

}  // namespace imhotep::gui
