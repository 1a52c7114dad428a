#pragma once
// The tensors of one folder: NAME.safetensors alone, or several files listed by
// NAME.safetensors.index.json.

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "executor/checkpoint/safetensors.h"

namespace imhotep::executor {

class WeightFiles {
 public:
  // `name` without ".safetensors". Throws: Error(Input) when neither file is there, or the index
  // and its files contradict each other.
  WeightFiles(const std::string& folder, const std::string& name);
  [[nodiscard]] static bool exist(const std::string& folder, const std::string& name);

  struct Place {
    const SafetensorsFile* file = nullptr;
    const TensorEntry* tensor = nullptr;  // nullptr: no such tensor
  };
  [[nodiscard]] Place find(const std::string& tensor) const;

  // Throws: Error(Input) naming the first tensor that is missing, has another shape, does not
  // convert to `dtype`, or is not among `expected`.
  void expect(const std::vector<TensorEntry>& expected, Dtype dtype) const;

 private:
  void read_index(const std::string& folder, const std::string& index);

  std::string shown_;  // the file or the index
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::unordered_map<std::string, const SafetensorsFile*> listed_;  // by the index
};

}  // namespace imhotep::executor
