#include "tests/executor/serve/hugging_face_files.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/base/content_hash.h"
#include "core/base/json_document.h"
#include "core/base/random.h"
#include "executor/checkpoint/tensor_table.h"

namespace imhotep::test {

using namespace executor;

void write_shards(const std::string& folder, const ModelSpec& model) {
  const auto tensors = model_tensors(model, Dtype::F32);
  nlohmann::ordered_json map = nlohmann::ordered_json::object();
  std::int64_t total = 0;
  for (int shard = 0; shard < 2; ++shard) {
    std::vector<TensorEntry> part;
    for (std::size_t i = shard; i < tensors.size(); i += 2) part.push_back(tensors[i]);
    const std::string name = fmt::format("model-{:05}-of-00002.safetensors", shard + 1);
    SafetensorsWriter writer(folder + "/" + name, part, {});
    writer.create();
    for (const TensorEntry& tensor : part) {
      std::int64_t count = 1;
      for (const std::int64_t size : tensor.shape) count *= size;
      std::vector<float> values;
      for (std::int64_t i = 0; i < count; ++i) {
        values.push_back(
            static_cast<float>(normal(fnv1a(tensor.name), static_cast<std::uint64_t>(i)) * 0.1));
      }
      writer.write(tensor.name, {.first = 0, .count = count}, values.data());
      map[tensor.name] = name;
      total += count * 4;
    }
  }
  const nlohmann::ordered_json index = {{"metadata", {{"total_size", total}}}, {"weight_map", map}};
  write_text_file(folder + "/model.safetensors.index.json", index.dump());
}

}  // namespace imhotep::test
