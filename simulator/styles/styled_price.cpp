#include "simulator/styles/styled_price.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "simulator/engine/program_graph.h"

namespace imhotep::simulator {
namespace {

void add(Cost& sum, const Cost& part, double times) {
  sum.time_us += times * part.time_us;
  sum.low_us += times * part.low_us;
  sum.high_us += times * part.high_us;
  sum.source = std::max(sum.source, part.source);
}

void scale(Cost& cost, double factor) {
  cost.time_us *= factor;
  cost.low_us *= factor;
  cost.high_us *= factor;
}

// Peers on other nodes that one rank sends to by itself.
double far_peers(const program::Shape& shape, const GroupLayout& layout) {
  const auto* exchange = std::get_if<ExchangeRows>(&shape);
  if (exchange == nullptr || layout.nodes < 2) return 0;
  if (exchange->algorithm == ExchangeAlgorithm::Hierarchical) return layout.nodes - 1;
  return layout.size - layout.per_node;
}

}  // namespace

StyledPrice::StyledPrice(const program::Program& program, const Plan& plan,
                         const StyleConstants& constants)
    : program_(program),
      traits_(traits_of(plan.style)),
      constants_(constants),
      foreign_(plan.style != ExecutionStyle::Imhotep),
      restyler_(program, plan) {}

Cost StyledPrice::price(const program::Operation& operation, const program::Shape& loaded,
                        const GroupLayout& layout, const PriceOne& one) {
  const StyledOperation styled = restyler_.at(operation, loaded);
  host_.push_back({.calls = styled.calls, .waits = styled.waits});
  const auto with_peers = [&](const program::Shape& shape) {
    Cost cost = one(shape);
    const double peers = traits_.peer_by_peer ? far_peers(shape, layout) * constants_.peer_us : 0;
    add(cost,
        {.time_us = peers,
         .low_us = peers * std::exp(-kPeerWidth),
         .high_us = peers * std::exp(kPeerWidth)},
        1);
    return cost;
  };
  Cost sum{.source = Source::Transferred};  // nobody here ran that system
  for (const StyledPart& part : styled.parts) {
    Cost cost = with_peers(part.shape);
    if (part.or_else) {
      const Cost other = with_peers(*part.or_else);
      if (other.time_us < cost.time_us) cost = other;
    }
    add(sum, cost, part.times);
  }
  return sum;
}

// Of the shorter of both, all but the last chunk is hidden behind the longer.
void StyledPrice::overlap_chunks(std::vector<Cost>& costs) const {
  if (traits_.chunks < 2) return;
  struct Layer {
    double exchange_us = 0, experts_us = 0;
    std::vector<std::size_t> experts;
  };
  std::map<std::pair<int, program::Pass>, Layer> layers;
  for (std::size_t i = 0; i < costs.size(); ++i) {
    const program::Operation& operation = program_.operations[i];
    Layer& layer = layers[{operation.layer, operation.pass}];
    if (std::holds_alternative<ExchangeRows>(operation.shape)) {
      layer.exchange_us += costs[i].time_us;
    } else if (std::holds_alternative<GroupedGemm>(operation.shape)) {
      layer.experts_us += costs[i].time_us;
      layer.experts.push_back(i);
    }
  }
  for (const auto& [key, layer] : layers) {
    if (layer.experts.empty()) continue;
    const double hidden =
        (1 - 1.0 / traits_.chunks) * std::min(layer.exchange_us, layer.experts_us);
    for (const std::size_t i : layer.experts) scale(costs[i], 1 - hidden / layer.experts_us);
  }
}

ProgramPrice StyledPrice::finish(ProgramPrice price, const ClusterSpec& cluster) const {
  overlap_chunks(price.costs);
  const TaskGraph graph = task_graph(program_, price.costs, cluster.overlap);
  const HostTimeline timeline = host_schedule(graph, host_, constants_.host_call_us);
  price.timeline = timeline.device;
  price.exposed_us = exposed_communication_us(program_, price.timeline);
  for (const int task : price.timeline.critical_path) {
    const double host_us = host_[task].calls * constants_.host_call_us;
    if (timeline.by_host[task]) {
      price.errors.add_host(host_us * (1 - std::exp(-kHostCallWidth)),
                            host_us * (std::exp(kHostCallWidth) - 1));
    } else {
      price.errors.add(static_cast<int>(program_.operations[task].shape.index()),
                       price.costs[task]);
    }
  }
  // What an operation takes on the screen is the slower of host and device.
  for (std::size_t i = 0; i < price.costs.size(); ++i) {
    Cost& cost = price.costs[i];
    const double host_us = host_[i].calls * constants_.host_call_us;
    if (host_us <= cost.time_us) continue;
    cost = {.time_us = host_us,
            .low_us = host_us * std::exp(-kHostCallWidth),
            .high_us = host_us * std::exp(kHostCallWidth),
            .source = Source::Transferred};
  }
  return price;
}

}  // namespace imhotep::simulator
