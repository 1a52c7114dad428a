#pragma once
// One communicator for every member list in use: groups that recur, in one plan or in the next,
// share it.
//
// Making a group waits for all its members, so ranks must make their groups in one order or they
// wait for each other in a circle. prepare() gives every rank the same list of all groups, sorted
// by members, and each makes those it belongs to in that order: the first group of the list that
// does not exist yet is what all of its members make next, so it always completes.

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "core/layout/groups.h"
#include "executor/comm/bootstrap.h"
#include "executor/comm/communicator.h"

namespace imhotep::executor {

// Every group that any rank needs to run the plan, sorted, each once; groups of one left out.
[[nodiscard]] std::vector<Members> plan_groups(const Plan& plan);

// How a hierarchical exchange sees its group: members by node and by place inside the node.
struct NodeGrid {
  int nodes = 1, per_node = 1;
  std::vector<int> member;  // [node * per_node + local]: index in the group
  [[nodiscard]] int at(int node, int local) const { return member[node * per_node + local]; }
};
// Throws: Failed when nodes hold different numbers of members.
[[nodiscard]] NodeGrid node_grid(const Members& group, int ranks_per_node);
[[nodiscard]] Members inside_node(const Members& group, const NodeGrid& grid, int node);
[[nodiscard]] Members across_nodes(const Members& group, const NodeGrid& grid, int local);

class CommunicatorPool {
 public:
  // Makes a group's communicator: collective over its members alone.
  using Make = std::function<std::unique_ptr<Communicator>(const Members& members, int tag)>;
  // bootstrap must outlive the pool. Without `make` groups talk as the bootstrap does.
  explicit CommunicatorPool(const Bootstrap& bootstrap, Make make = {})
      : bootstrap_(bootstrap), make_(std::move(make)) {}

  // Collective over all ranks, also those beyond plan.world (they make nothing).
  // Throws: Failed when the plan has more ranks than were started.
  void prepare(const Plan& plan);
  // `groups`: of all ranks, the same list everywhere; its order does not matter.
  void prepare(std::vector<Members> groups);

  // Lives as long as the pool. Throws: Failed when the group was not prepared.
  [[nodiscard]] Communicator& get(const Members& members);
  [[nodiscard]] std::size_t size() const { return communicators_.size(); }
  [[nodiscard]] const Bootstrap& bootstrap() const { return bootstrap_; }
  // Whatever else belongs to a group and should live as long as the pool; null at first.
  [[nodiscard]] std::shared_ptr<void>& attachment(const Members& members) {
    return attachments_[members];
  }

 private:
  const Bootstrap& bootstrap_;
  Make make_;
  std::map<Members, std::unique_ptr<Communicator>> communicators_;
  std::map<Members, std::shared_ptr<void>> attachments_;  // may use the communicators
};

}  // namespace imhotep::executor
