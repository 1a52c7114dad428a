#include "cli/plan_file.h"

#include <filesystem>
#include <iostream>
#include <iterator>

#include "cli/local_gpu.h"
#include "cli/plan_request.h"
#include "core/base/fail.h"
#include "core/base/json_document.h"
#include "profiles/catalogue.h"

namespace imhotep::cli {

Plan read_plan_argument(const std::string& file) {
  const bool standard_input = file == "-";
  const std::string exported = file + "/plan.json";  // of imhotep export
  const bool folder = std::filesystem::is_directory(file);
  const std::string name = standard_input ? "standard input" : folder ? exported : file;
  const std::string text = standard_input
                               ? std::string(std::istreambuf_iterator<char>(std::cin), {})
                               : read_text_file(name);
  const JsonDocument document = JsonDocument::parse(text, name);
  const auto& body = document.value();
  const bool answer = body.is_object() && !body.contains("schema") && body.contains("search");
  if (!answer) return parse_plan(text, name);
  if (!body.contains("plan")) fail_input("{}: this answer holds no feasible plan", name);
  return parse_plan(body["plan"].dump(), name);
}

Judge judge_for(const Plan& plan, const std::string& cluster, const std::string& profile) {
  const std::string name = !cluster.empty()       ? cluster
                           : plan.cluster.empty() ? "local"
                                                  : plan.cluster;
  ClusterSpec found;
  try {
    found = find_cluster(name);
  } catch (const Error& error) {
    if (!cluster.empty() || error.kind() == ErrorKind::Missing) throw;
    fail_input(
        "the plan was made for the cluster \"{}\", which is not in the catalogue; name its "
        "file: --cluster FILE",
        name);
  }
  // A plan for more devices than the cluster has was made for more of its nodes.
  if (found.device.kind == DeviceKind::Cuda && plan.world > found.devices()) {
    found.nodes = (plan.world - 1) / found.devices_per_node + 1;
  }
  const std::optional<profiles::Profile> prices = choose_profile(profile, found);
  return {.cluster = found, .profile = prices, .simulator = simulator::Simulator(found, prices)};
}

}  // namespace imhotep::cli
