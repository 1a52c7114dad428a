#include "core/spec/workload.h"

#include "core/base/json_fields.h"

namespace imhotep {

Workload read_workload(const std::string& file) {
  return read_document<Workload>(JsonDocument::read(file), kWorkloadSchema);
}

void write_workload(const Workload& workload, const std::string& file) {
  write_text_file(file, document_of(workload, kWorkloadSchema).dump(2) + "\n");
}

}  // namespace imhotep
