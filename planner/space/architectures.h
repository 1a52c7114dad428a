#pragma once
// Other models of the same size: how many experts which layers have, a shallower student, a fixed
// expert beside the routed ones or two routed ones. Which is fastest on a cluster is for the
// search to say; which learns best is not asked here.
// Source: DeepSpeed-MoE (arXiv 2201.05596), sections 4.1 (pyramid, residual) and 4.2 (students).

#include <string>
#include <vector>

#include "core/spec/model.h"

namespace imhotep::planner {

struct Architecture {
  ModelSpec model;
  std::string change;  // "64x10,128x2, residual, 24 layers"
  double core_parameters = 0;
};

// The model itself first, then every other one whose core parameters differ from its by at most
// `tolerance`, a share. Experts are multiples of 4, so that they can be divided; a pyramid has
// twice as many in its last layers. Throws: Error(Input) for a model without experts.
[[nodiscard]] std::vector<Architecture> architectures_of(const ModelSpec& model,
                                                         double tolerance = 0.05);

}  // namespace imhotep::planner
