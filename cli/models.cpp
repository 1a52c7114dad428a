// imhotep models: the catalogue, or one model of it.

#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/table.h"
#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "core/base/units.h"
#include "core/spec/parameters.h"
#include "profiles/catalogue.h"

namespace imhotep::cli {
namespace {

Json json_of_model(const ModelSpec& model) {
  return {{"name", model.name},
          {"layers", model.layers},
          {"hidden", model.hidden},
          {"heads", model.heads},
          {"context", model.context},
          {"experts", model.experts.text()},
          {"moe_layers", model.moe_layers()},
          {"top_k", model.top_k},
          {"residual", model.residual},
          {"parameters", parameters(model)},
          {"core_parameters", core_parameters(model)},
          {"active_parameters", active_parameters(model)}};
}

void print_table(const std::vector<ModelSpec>& models, bool color) {
  Table table({{"model"},
               {"layers", Align::Right},
               {"hidden", Align::Right},
               {"experts", Align::Right},
               {"kind"},
               {"parameters", Align::Right},
               {"core", Align::Right},
               {"active a token", Align::Right}});
  for (const ModelSpec& model : models) {
    const auto count = [](std::int64_t n) { return format_count(static_cast<double>(n)); };
    table.row({model.name, std::to_string(model.layers), std::to_string(model.hidden),
               model.moe_layers() > 0 ? model.experts.text() : "-",
               model.moe_layers() == 0 ? "dense"
               : model.residual        ? "residual"
                                       : fmt::format("top-{}", model.top_k),
               count(parameters(model)), count(core_parameters(model)),
               count(active_parameters(model))});
  }
  std::fputs(table.text(0, color).c_str(), stdout);
}

}  // namespace

Run setup_models(Arguments& arguments) {
  const auto name = std::make_shared<std::string>();
  arguments.text("MODEL", *name, "a catalogue name or a .json file; all models without it");
  arguments.example("imhotep models");
  arguments.example("imhotep models 1.3b-pr-moe-64-128 --json");
  return [name](const Session& session) {
    const std::vector<ModelSpec> models =
        name->empty() ? profiles::models() : std::vector<ModelSpec>{profiles::find_model(*name)};
    if (session.json) {
      Json list = Json::array();
      for (const ModelSpec& model : models) list.push_back(json_of_model(model));
      std::puts(list.dump(2).c_str());
    } else {
      print_table(models, session.color);
    }
    return 0;
  };
}

}  // namespace imhotep::cli
