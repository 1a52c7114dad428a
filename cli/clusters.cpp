// imhotep clusters: the catalogue, and this machine as "local".

#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/local_gpu.h"
#include "cli/table.h"
#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "core/base/units.h"
#include "profiles/catalogue.h"

namespace imhotep::cli {
namespace {

std::string link_text(const LinkSpec& link) {
  return fmt::format("{:.4g} GB/s, {:.3g} us", link.bytes_per_us / 1000, link.latency_us);
}

void print_table(const std::vector<ClusterSpec>& clusters, bool color) {
  Table table({{"cluster"},
               {"device"},
               {"devices", Align::Right},
               {"memory", Align::Right},
               {"within a node"},
               {"between nodes"}});
  for (const ClusterSpec& cluster : clusters) {
    table.row({cluster.name, cluster.device.name,
               cluster.nodes > 1 ? fmt::format("{} x {} = {}", cluster.nodes,
                                               cluster.devices_per_node, cluster.devices())
                                 : std::to_string(cluster.devices()),
               format_bytes(static_cast<double>(cluster.device.memory_bytes)),
               cluster.devices_per_node > 1 ? link_text(cluster.intra) : "-",
               cluster.nodes > 1 ? link_text(cluster.inter) : "-"});
  }
  std::fputs(table.text(0, color).c_str(), stdout);
}

}  // namespace

Run setup_clusters(Arguments& arguments) {
  const auto name = std::make_shared<std::string>();
  arguments.text("CLUSTER", *name, "a catalogue name or a .json file; all clusters without it");
  arguments.example("imhotep clusters");
  arguments.example("imhotep clusters local --json");
  return [name](const Session& session) {
    const std::vector<ClusterSpec> clusters =
        name->empty() ? cli::clusters() : std::vector<ClusterSpec>{find_cluster(*name)};
    if (session.json) {
      Json list = Json::array();
      for (const ClusterSpec& cluster : clusters) {
        Json entry = json_of(cluster);
        entry["devices"] = cluster.devices();
        list.push_back(entry);
      }
      std::puts(list.dump(2).c_str());
    } else {
      print_table(clusters, session.color);
    }
    return 0;
  };
}

}  // namespace imhotep::cli
