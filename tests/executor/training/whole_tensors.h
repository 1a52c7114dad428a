#pragma once
// Tensors of a model put together from the ranks that hold their parts, to compare what different
// plans hold.

#include <map>
#include <string>
#include <vector>

#include "core/layout/weights.h"
#include "executor/comm/communicator.h"
#include "executor/train/trainer.h"

namespace imhotep::test {

struct WholeTensors {
  std::map<std::string, std::vector<double>> values;  // by name, one an expert
  double disagreement = 0;  // largest difference between ranks that hold the same element
};

enum class Held : std::uint8_t { Weights, FirstMoment, SecondMoment };

// Collective over the ranks of the plan; `all`: their communicator, null for one rank.
// Throws: Failed when no rank holds an element.
[[nodiscard]] WholeTensors whole_tensors(executor::Trainer& trainer, Held held,
                                         executor::Communicator* all);

// Largest difference of two elements, relative to the largest value of their tensor.
[[nodiscard]] double worst_difference(const WholeTensors& a, const WholeTensors& b);

}  // namespace imhotep::test
