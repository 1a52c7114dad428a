#pragma once
// A program priced in the style of another system: operation by operation as the restyler says,
// then on two queues, the host's and the device's.

#include <functional>
#include <vector>

#include "core/spec/cluster.h"
#include "simulator/network/group_layout.h"
#include "simulator/step.h"
#include "simulator/styles/host_queue.h"
#include "simulator/styles/restyle.h"

namespace imhotep::simulator {

class StyledPrice {
 public:
  StyledPrice(const program::Program& program, const Plan& plan, const StyleConstants& constants);

  // Whether there is anything to do: imhotep's own style is priced as it is.
  [[nodiscard]] bool foreign() const { return foreign_; }

  using PriceOne = std::function<Cost(const program::Shape&)>;
  // The device's time for one operation; operations come in the order of the program.
  [[nodiscard]] Cost price(const program::Operation& operation, const program::Shape& loaded,
                           const GroupLayout& layout, const PriceOne& one);
  // With all costs there: exchanges overlap experts in chunks, then both queues run.
  [[nodiscard]] ProgramPrice finish(ProgramPrice price, const ClusterSpec& cluster) const;

 private:
  void overlap_chunks(std::vector<Cost>& costs) const;

  const program::Program& program_;
  const StyleTraits& traits_;
  StyleConstants constants_;
  bool foreign_;
  Restyler restyler_;
  std::vector<HostWork> host_;
};

}  // namespace imhotep::simulator
