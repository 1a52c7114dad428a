#pragma once
// Apart from the test: the pieces of a checkpoint and those of a transfer share a name.

#include <string>

#include "core/spec/model.h"

namespace imhotep::test {

// Every tensor of the model, values by name and position, over two shards and an index.
void write_shards(const std::string& folder, const ModelSpec& model);

}  // namespace imhotep::test
