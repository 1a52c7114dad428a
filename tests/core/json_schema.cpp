#include "tests/core/json_schema.h"

#include <nlohmann/json.hpp>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validation_results.hpp>
#include <valijson/validator.hpp>

namespace imhotep::test {

std::string schema_problem(const std::string& schema, const std::string& document) {
  const auto schema_json = nlohmann::json::parse(schema);
  const auto document_json = nlohmann::json::parse(document);
  valijson::Schema parsed;
  valijson::SchemaParser parser(valijson::SchemaParser::kDraft7);
  parser.populateSchema(valijson::adapters::NlohmannJsonAdapter(schema_json), parsed);
  valijson::Validator validator;
  valijson::ValidationResults results;
  const valijson::adapters::NlohmannJsonAdapter target(document_json);
  std::string problem;
  if (validator.validate(parsed, target, &results)) return problem;
  valijson::ValidationResults::Error error;
  while (results.popError(error)) {
    for (const auto& step : error.context) problem += step;
    problem += " " + error.description + "\n";
  }
  return problem;
}

}  // namespace imhotep::test
