#include "gui/presenter/search_file.h"

#include <QFile>
#include <QSaveFile>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/base/content_hash.h"
#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "gui/presenter/basics.h"

namespace imhotep::gui {
namespace {

constexpr const char* kSchema = "imhotep.search/1";
constexpr char kMagic[] = "IMHOTEP SEARCH 1\n";
constexpr qsizetype kMagicBytes = sizeof kMagic - 1;
constexpr std::int64_t kMostRows = 100'000'000;

static_assert(std::endian::native == std::endian::little, "columns are written as they lie");

const char* const kKinds[] = {"time", "bytes", "rate", "count", "money", "choice"};

// Eight bytes at a time: finds damage, and keeps up with a disk.
std::uint64_t checksum(const char* bytes, qsizetype size) {
  std::uint64_t sum = 0xCBF29CE484222325ULL;
  for (qsizetype at = 0; at + 8 <= size; at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes + at, 8);
    sum = (sum ^ word) * 0x9E3779B97F4A7C15ULL;
    sum ^= sum >> 29;
  }
  return sum;
}

Json header_of(const PlanSet& plans, std::uint64_t sum) {
  Json columns = Json::array();
  for (const Column& column : plans.columns) {
    Json choices = Json::array();
    for (const QString& choice : column.choices) choices.push_back(plain(choice));
    columns.push_back({{"name", plain(column.name)},
                       {"title", plain(column.title)},
                       {"kind", kKinds[static_cast<int>(column.kind)]},
                       {"more_is_better", column.more_is_better},
                       {"choices", choices}});
  }
  Json intervals = Json::array();
  for (const Interval& interval : plans.intervals) {
    intervals.push_back({interval.row, interval.low, interval.high});
  }
  return {{"schema", kSchema},
          {"rows", plans.size()},
          {"best", plans.best},
          {"prices", plain(plans.prices)},
          {"note", plain(plans.note)},
          {"seconds", plans.seconds},
          {"checksum", fmt::format("{:016x}", sum)},
          {"columns", columns},
          {"intervals", intervals},
          {"question", Json::parse(question_text(plans.question))}};
}

Column column_of(const Json& json, const std::string& file) {
  Column column{.name = qt(json.at("name").get<std::string>()),
                .title = qt(json.at("title").get<std::string>())};
  const std::string kind = json.at("kind").get<std::string>();
  const auto found = std::find(std::begin(kKinds), std::end(kKinds), kind);
  if (found == std::end(kKinds)) fail_input("{}: unknown kind of column \"{}\"", file, kind);
  column.kind = static_cast<Column::Kind>(found - std::begin(kKinds));
  column.more_is_better = json.at("more_is_better").get<bool>();
  for (const Json& choice : json.at("choices")) column.choices << qt(choice.get<std::string>());
  return column;
}

PlanSet parse_header(const Json& json, const std::string& file) {
  if (json.at("schema") != kSchema) {
    fail_input("{}: expected schema \"{}\", got {}", file, kSchema, json.at("schema").dump());
  }
  PlanSet plans;
  plans.question = parse_question(json.at("question").dump(), file);
  plans.best = json.at("best").get<std::int64_t>();
  plans.prices = qt(json.at("prices").get<std::string>());
  plans.note = qt(json.at("note").get<std::string>());
  plans.seconds = json.at("seconds").get<double>();
  for (const Json& column : json.at("columns")) plans.columns.push_back(column_of(column, file));
  for (const Json& interval : json.at("intervals")) {
    plans.intervals.push_back({interval.at(0).get<std::int64_t>(), interval.at(1).get<double>(),
                               interval.at(2).get<double>()});
  }
  return plans;
}

void check_values(const PlanSet& plans, const std::string& file) {
  for (const char* name : {"time", "memory", "gpus", "tensor", "data", "fits", "tokens"}) {
    if (plans.find(name) == nullptr) fail_input("{}: column \"{}\" is missing", file, name);
  }
  for (const Column& column : plans.columns) {
    if (column.kind != Column::Kind::Choice) continue;
    const bool may_lack = column.name != u"fits";  // rows that are only priced have no degrees
    for (const double value : column.values) {
      if (std::isnan(value) && may_lack) continue;
      if (!(value >= 0 && value < static_cast<double>(column.choices.size()))) {
        fail_input("{}: column \"{}\": expected 0 to {}, got {}", file, plain(column.name),
                   column.choices.size() - 1, value);
      }
    }
  }
  if (plans.best < -1 || plans.best >= plans.size()) {
    fail_input("{}: best: expected a row below {}, got {}", file, plans.size(), plans.best);
  }
}

}  // namespace

void write_search(const PlanSet& plans, const QString& file) {
  QByteArray columns;
  columns.reserve(plans.size() * 8 * count_of(plans.columns));
  for (const Column& column : plans.columns) {
    columns.append(reinterpret_cast<const char*>(column.values.data()),
                   static_cast<qsizetype>(column.values.size() * sizeof(double)));
  }
  const std::string header = header_of(plans, checksum(columns.constData(), columns.size())).dump();
  QSaveFile out(file);
  const bool written = out.open(QIODevice::WriteOnly) && out.write(kMagic, kMagicBytes) >= 0 &&
                       out.write(QByteArray::fromStdString(header) + "\n") >= 0 &&
                       out.write(columns) >= 0 && out.commit();
  if (!written) fail("{}: cannot be written: {}", plain(file), plain(out.errorString()));
}

PlanSet read_search(const QString& file) {
  const std::string name = plain(file);
  QFile in(file);
  if (!in.open(QIODevice::ReadOnly)) {
    fail_input("{}: cannot be read: {}", name, plain(in.errorString()));
  }
  const QByteArray all = in.readAll();
  if (!all.startsWith(kMagic)) fail_input("{}: this is no search file of version 1", name);
  const qsizetype end = all.indexOf('\n', kMagicBytes);
  if (end < 0) fail_input("{}: the header is cut short", name);
  PlanSet plans;
  std::int64_t rows = 0;
  std::string sum;
  try {
    const Json json = Json::parse(all.constData() + kMagicBytes, all.constData() + end);
    plans = parse_header(json, name);
    rows = json.at("rows").get<std::int64_t>();
    sum = json.at("checksum").get<std::string>();
  } catch (const Json::exception& error) {
    fail_input("{}: the header is broken: {}", name, error.what());
  }
  if (rows < 0 || rows > kMostRows || plans.columns.size() > 1000) {
    fail_input("{}: {} rows of {} columns are too many", name, rows, plans.columns.size());
  }
  const qsizetype expected = rows * 8 * count_of(plans.columns), got = all.size() - end - 1;
  if (got != expected) {
    fail_input("{}: expected {} bytes of columns, got {}", name, expected, got);
  }
  const char* at = all.constData() + end + 1;
  if (fmt::format("{:016x}", checksum(at, got)) != sum) {
    fail_input("{}: the columns are damaged (checksum {} expected)", name, sum);
  }
  for (Column& column : plans.columns) {
    column.values.resize(static_cast<std::size_t>(rows));
    std::memcpy(column.values.data(), at, static_cast<std::size_t>(rows) * 8);
    at += rows * 8;
  }
  check_values(plans, name);
  return plans;
}

}  // namespace imhotep::gui
