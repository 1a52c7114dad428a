#pragma once
// Validates a JSON text against a JSON Schema text with valijson, an implementation that shares
// no code with ours.

#include <nlohmann/json.hpp>
#include <string>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validation_results.hpp>
#include <valijson/validator.hpp>

namespace imhotep::test {

// Empty when `document` is valid, else every complaint.
[[nodiscard]] inline std::string schema_problem(const std::string& schema_text,
                                                const std::string& document_text) {
  const auto schema_json = nlohmann::json::parse(schema_text);
  const auto document = nlohmann::json::parse(document_text);
  valijson::Schema schema;
  valijson::SchemaParser parser(valijson::SchemaParser::kDraft7);
  parser.populateSchema(valijson::adapters::NlohmannJsonAdapter(schema_json), schema);
  valijson::Validator validator;
  valijson::ValidationResults results;
  const valijson::adapters::NlohmannJsonAdapter target(document);
  std::string problem;
  if (!validator.validate(schema, target, &results)) {
    valijson::ValidationResults::Error error;
    while (results.popError(error)) {
      for (const auto& step : error.context) problem += step;
      problem += " " + error.description + "\n";
    }
  }
  return problem;
}

}  // namespace imhotep::test
