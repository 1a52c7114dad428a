#pragma once
// From a folder of text to a tokenizer and token files, once: a second call with the same text,
// tokenizer and options finds the files of the first. For one process; others wait for it.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "executor/data/corpus.h"
#include "executor/data/tokenizer.h"

namespace imhotep::executor {

// Units: bytes of text.
using PrepareProgress = std::function<void(std::int64_t done_bytes, std::int64_t total_bytes)>;

struct PreparedTokens {
  std::string training_file, held_out_file;
  std::int64_t training_tokens = 0, held_out_tokens = 0;
  bool reused = false;               // the files were there already
  std::vector<std::string> notices;  // text that was skipped or repaired
};

// Writes out_folder/training.tokens and held_out.tokens, a separator after every document.
// Throws: Error(Input) for text that cannot be used, Error(Failed) when writing fails.
PreparedTokens prepare_tokens(const Corpus& corpus, const std::string& out_folder,
                              const Tokenizer& tokenizer, const PrepareProgress& progress = {});

// Trains out_folder/tokenizer.model, or reads it when text and options have not changed since.
[[nodiscard]] Tokenizer prepare_tokenizer(const Corpus& corpus, const std::string& out_folder,
                                          const TokenizerOptions& options);

}  // namespace imhotep::executor
