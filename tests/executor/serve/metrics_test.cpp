// What Prometheus reads: names, sums and buckets, and that docs/serve.md lists them all.

#include "executor/serve/metrics.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <regex>
#include <set>

#include "core/base/json_document.h"

namespace imhotep::executor {
namespace {

std::set<std::string> found(const std::string& text, const char* pattern) {
  std::set<std::string> names;
  const std::regex one(pattern);
  for (std::sregex_iterator i(text.begin(), text.end(), one), end; i != end; ++i) {
    names.insert((*i)[1].str());
  }
  return names;
}

Metrics labelled() { return Metrics({.model = "a \"b\" \\ c", .plan_hash = "12", .version = "0"}); }

}  // namespace

TEST_CASE("docs/serve.md lists every metric, and no other") {
  const Metrics metrics = Metrics({});
  const std::set<std::string> written = found(metrics.text(1), "# TYPE imhotep_(\\w+) ");
  CHECK(written.size() > 25);
  const std::string page = read_text_file(IMHOTEP_SOURCE_DIR "/docs/serve.md");
  const std::size_t begin = page.find("## Metrics"), end = page.find("\n## ", begin + 1);
  REQUIRE(begin != std::string::npos);
  std::set<std::string> listed = found(page.substr(begin, end - begin), "`(\\w+_\\w+)`");
  for (const char* other : {"imhotep_", "model_name", "finished_reason"}) listed.erase(other);
  CHECK(listed == written);
}

TEST_CASE("buckets of a histogram count what is not above them, and labels are escaped") {
  Metrics metrics = labelled();
  metrics.update([](Metrics::Values& v) {
    for (const double seconds : {0.001, 0.3, 0.3, 1e9}) v.first_token.add(seconds);
    v.experts.push_back({.layer = 3, .tokens = {1, 0, 5}});
  });
  const std::string text = metrics.text(1);
  const std::string model = "model_name=\"a \\\"b\\\" \\\\ c\"";
  const std::string name = "imhotep_time_to_first_token_seconds";
  const auto has = [&](const std::string& line) {
    CAPTURE(line);
    CHECK(text.find("\n" + line + "\n") != std::string::npos);
  };
  has(name + "_count{" + model + "} 4");
  has(name + "_bucket{" + model + ",le=\"+Inf\"} 4");
  has("imhotep_expert_tokens_total{" + model + ",layer=\"3\",expert=\"2\"} 5");
  has("imhotep_expert_imbalance_ratio{" + model + ",layer=\"3\"} 2.5");
  const std::regex bucket(name + R"x(_bucket\{.*le="([0-9.e-]+)"\} (\d+))x");
  for (std::sregex_iterator i(text.begin(), text.end(), bucket), end; i != end; ++i) {
    const double bound = std::stod((*i)[1].str());
    const int count = (bound >= 0.001 ? 1 : 0) + (bound >= 0.3 ? 2 : 0);
    CAPTURE(bound);
    CHECK(std::stoi((*i)[2].str()) == count);
  }
}

}  // namespace imhotep::executor
