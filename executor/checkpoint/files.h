#pragma once
// Names inside a checkpoint's folder, and errors shared by its ranks.

#include <filesystem>
#include <string>

#include "core/base/error.h"
#include "core/base/fail.h"
#include "executor/checkpoint/cooperation.h"

namespace imhotep::executor {

inline constexpr const char* kModelFiles = "model";          // .safetensors
inline constexpr const char* kOptimizerFiles = "optimizer";  // .safetensors
inline constexpr const char* kModelConfig = "config.json";
inline constexpr const char* kPlanFile = "plan.json";
inline constexpr const char* kStateFile = "state.json";
inline constexpr const char* kTokenizerFile = "tokenizer.model";

[[nodiscard]] inline std::string file_in(const std::string& folder, const std::string& name) {
  return (std::filesystem::path(folder) / name).string();
}

// Collective: runs `work` on this rank and returns the first error of any rank; "" if none.
template <class Work>
[[nodiscard]] std::string first_error_of(Cooperation& ranks, Work&& work) {
  std::string error;
  try {
    work();
  } catch (const std::exception& exception) {
    error = ranks.world() > 1 ? fmt::format("rank {}: {}", ranks.rank(), exception.what())
                              : exception.what();
  }
  return ranks.first_error(error);
}

}  // namespace imhotep::executor
