#include "core/spec/report.h"

#include "core/base/json_fields.h"

namespace imhotep {

RunReport read_report(const std::string& file) {
  return read_document<RunReport>(JsonDocument::read(file), kReportSchema);
}

void write_report(const RunReport& report, const std::string& file) {
  write_text_file(file, document_of(report, kReportSchema).dump(2) + "\n");
}

}  // namespace imhotep
