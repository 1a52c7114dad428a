#include "executor/checkpoint/state.h"

#include <cmath>

#include "core/base/json_fields.h"

namespace imhotep::executor {

TrainingState read_state(const std::string& file) {
  return read_document<TrainingState>(JsonDocument::read(file), kStateSchema);
}

void write_state(const TrainingState& state, const std::string& file) {
  if (state.loss && !std::isfinite(*state.loss)) {
    TrainingState finite = state;
    finite.loss.reset();
    return write_state(finite, file);
  }
  write_text_file(file, document_of(state, kStateSchema).dump(2) + "\n");
}

}  // namespace imhotep::executor
