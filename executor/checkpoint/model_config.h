#pragma once
// The model of a folder by its config.json: ours (docs/formats/model.md), or one in the manner of
// Hugging Face, with the experts of every layer as a list.
// Source: huggingface.co/docs/transformers, "Configuration" (names of GPT-2 and of Mixtral).

#include <string>

#include "core/spec/model.h"

namespace imhotep::executor {

// Throws: Error(Input), also for a model that is built otherwise than ours (docs/serve.md).
[[nodiscard]] ModelSpec read_model_config(const std::string& file);

}  // namespace imhotep::executor
