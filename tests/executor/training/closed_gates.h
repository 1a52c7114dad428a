#pragma once

#include <algorithm>

#include "executor/train/trainer.h"

namespace imhotep::executor {

// Equal logits: ties go to the lower expert, so every token chooses expert 0.
inline void close_gates(Trainer& trainer) {
  for (int layer = 0; layer < trainer.plan().model.layers; ++layer) {
    const LocalTensor* gate = trainer.weights().find(TensorRole::GateWeight, layer);
    if (gate == nullptr) continue;
    auto* region = reinterpret_cast<double*>(
        trainer.runner().region(program::BufferKind::Weight, gate->region));
    std::fill_n(region + gate->offset, gate->elements, 0.0);
  }
}

}  // namespace imhotep::executor
