#include "executor/checkpoint/weight_files.h"

#include <filesystem>
#include <map>
#include <unordered_set>

#include "core/base/fail.h"
#include "core/base/json_document.h"

namespace imhotep::executor {
namespace {

namespace fs = std::filesystem;

std::string path_in(const std::string& folder, const std::string& name) {
  return (fs::path(folder) / name).string();
}

}  // namespace

bool WeightFiles::exist(const std::string& folder, const std::string& name) {
  return fs::exists(path_in(folder, name + ".safetensors")) ||
         fs::exists(path_in(folder, name + ".safetensors.index.json"));
}

WeightFiles::WeightFiles(const std::string& folder, const std::string& name)
    : shown_(path_in(folder, name + ".safetensors")) {
  const std::string index = shown_ + ".index.json";
  if (fs::exists(shown_) || !fs::exists(index)) {
    files_.push_back(std::make_unique<SafetensorsFile>(shown_));
  } else {
    shown_ = index;
    read_index(folder, index);
  }
}

void WeightFiles::read_index(const std::string& folder, const std::string& index) {
  const JsonDocument document = JsonDocument::read(index);
  const auto& root = document.value();
  if (!root.is_object() || !root.contains("weight_map") || !root["weight_map"].is_object()) {
    document.fail_at("$", "expected an object with an object \"weight_map\"");
  }
  std::map<std::string, SafetensorsFile*> opened;
  std::int64_t total_bytes = 0;
  for (const auto& [tensor, value] : root["weight_map"].items()) {
    const std::string path = "$.weight_map." + tensor;
    const std::string name = value.is_string() ? value.get<std::string>() : "";
    if (name.empty() || name.find('/') != std::string::npos) {
      document.fail_at(
          path, fmt::format("expected the name of a file beside the index, got {}", value.dump()));
    }
    SafetensorsFile*& file = opened[name];
    if (file == nullptr) {
      files_.push_back(std::make_unique<SafetensorsFile>(path_in(folder, name)));
      file = files_.back().get();
      total_bytes += file->data_bytes();
    }
    if (file->find(tensor) == nullptr) {
      document.fail_at(path, fmt::format("{} holds no such tensor", file->file()));
    }
    listed_[tensor] = file;
  }
  const auto metadata = root.find("metadata");
  if (metadata == root.end() || !metadata->is_object() || !metadata->contains("total_size")) return;
  const auto& total = (*metadata)["total_size"];
  if (!total.is_number() || total.get<double>() != static_cast<double>(total_bytes)) {
    document.fail_at("$.metadata.total_size",
                     fmt::format("the files hold {} bytes, got {}", total_bytes, total.dump()));
  }
}

WeightFiles::Place WeightFiles::find(const std::string& tensor) const {
  const auto found = listed_.find(tensor);
  const SafetensorsFile* file = nullptr;
  if (found != listed_.end()) file = found->second;
  if (listed_.empty()) file = files_.front().get();
  return {.file = file, .tensor = file == nullptr ? nullptr : file->find(tensor)};
}

void WeightFiles::expect(const std::vector<TensorEntry>& expected, Dtype dtype) const {
  std::unordered_set<std::string> names;
  for (const TensorEntry& tensor : expected) {
    names.insert(tensor.name);
    const Place place = find(tensor.name);
    if (place.tensor == nullptr) {
      fail_input("{}: tensor \"{}\" is missing: expected shape {}", shown_, tensor.name,
                 shape_text(tensor.shape));
    }
    if (place.tensor->shape != tensor.shape) {
      fail_input("{}: tensor \"{}\": expected shape {}, got {}", place.file->file(), tensor.name,
                 shape_text(tensor.shape), shape_text(place.tensor->shape));
    }
    if (!convertible(place.tensor->type, dtype)) {
      fail_input("{}: tensor \"{}\": expected a type that converts to {}, got {}",
                 place.file->file(), tensor.name, name_of(element_type(dtype)),
                 name_of(place.tensor->type));
    }
  }
  for (const auto& file : files_) {
    for (const TensorEntry& tensor : file->header().tensors) {
      if (names.count(tensor.name) == 0) {
        fail_input("{}: unexpected tensor \"{}\" {}: the model has no such tensor", file->file(),
                   tensor.name, shape_text(tensor.shape));
      }
    }
  }
}

}  // namespace imhotep::executor
