#include "executor/data/prepare.h"

#include <filesystem>
#include <optional>

#include "core/base/fail.h"
#include "core/base/json_document.h"
#include "executor/data/token_file.h"

namespace imhotep::executor {
namespace {

namespace fs = std::filesystem;

void make_folder(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail("{}: cannot create the folder: {}", folder, error.message());
}

std::string file_in(const std::string& folder, const char* name) {
  return (fs::path(folder) / name).string();
}

// Tokens in a file that the same text and tokenizer gave; nothing when it has to be written.
std::optional<std::int64_t> tokens_found(const std::string& file, const TokenFileInfo& wanted) {
  if (!fs::exists(file)) return std::nullopt;
  try {
    const TokenFile found(file);
    const bool same = found.info().tokenizer_hash == wanted.tokenizer_hash &&
                      found.info().text_fingerprint == wanted.text_fingerprint;
    if (same) return found.count();
  } catch (const Error&) {
    return std::nullopt;  // damaged: written again
  }
  return std::nullopt;
}

class PartWriter {
 public:
  PartWriter(const std::string& file, const TokenFileInfo& info, const Tokenizer& tokenizer)
      : writer_(file, info), tokenizer_(tokenizer) {}

  void add(std::string_view text) {
    if (text.empty()) return;
    tokens_.clear();
    tokenizer_.encode(text, tokens_);
    tokens_.push_back(tokenizer_.separator());
    writer_.append(tokens_);
  }
  [[nodiscard]] std::int64_t count() const { return writer_.count(); }
  void finish() { writer_.finish(); }

 private:
  TokenFileWriter writer_;
  const Tokenizer& tokenizer_;
  std::vector<std::int32_t> tokens_;
};

}  // namespace

PreparedTokens prepare_tokens(const Corpus& corpus, const std::string& out_folder,
                              const Tokenizer& tokenizer, const PrepareProgress& progress) {
  make_folder(out_folder);
  PreparedTokens prepared{.training_file = file_in(out_folder, "training.tokens"),
                          .held_out_file = file_in(out_folder, "held_out.tokens"),
                          .notices = corpus.notices};
  const TokenFileInfo info{.vocab = tokenizer.vocab(),
                           .tokenizer_hash = tokenizer.hash(),
                           .text_fingerprint = corpus.fingerprint()};
  const auto training_found = tokens_found(prepared.training_file, info);
  const auto held_out_found = tokens_found(prepared.held_out_file, info);
  if (training_found && held_out_found) {
    prepared.training_tokens = *training_found;
    prepared.held_out_tokens = *held_out_found;
    prepared.reused = true;
    return prepared;
  }
  PartWriter training(prepared.training_file, info, tokenizer);
  PartWriter held_out(prepared.held_out_file, info, tokenizer);
  std::int64_t done = 0;
  for (std::size_t i = 0; i < corpus.files.size(); ++i) {
    const std::string text = read_document(corpus, i, prepared.notices);
    const SplitDocument split = split_document(text, i, corpus.files.size());
    training.add(split.training);
    held_out.add(split.held_out);
    done += corpus.files[i].bytes;
    if (progress) progress(done, corpus.bytes());
  }
  prepared.training_tokens = training.count();
  prepared.held_out_tokens = held_out.count();
  if (prepared.training_tokens == 0) {
    fail_input("{}: no text to train on: {}", corpus.folder,
               prepared.notices.empty() ? "nothing but empty files" : prepared.notices.front());
  }
  held_out.finish();
  training.finish();
  return prepared;
}

Tokenizer prepare_tokenizer(const Corpus& corpus, const std::string& out_folder,
                            const TokenizerOptions& options) {
  make_folder(out_folder);
  const std::string model = file_in(out_folder, "tokenizer.model");
  const std::string stamp = file_in(out_folder, "tokenizer.stamp");
  const auto stamp_of = [&](const Tokenizer& tokenizer) {
    return fmt::format("text {:016x}\nkind {}\nvocab {}\nsample_bytes {}\nmodel {}\n",
                       corpus.fingerprint(), name_of(options.kind), options.vocab,
                       options.sample_bytes, tokenizer.hash_text());
  };
  if (fs::exists(model) && fs::exists(stamp)) {
    try {
      Tokenizer found = Tokenizer::load(model);
      if (read_text_file(stamp) == stamp_of(found)) return found;
    } catch (const Error&) {
      std::remove(stamp.c_str());  // damaged: trained again
    }
  }
  Tokenizer tokenizer = train_tokenizer(corpus, options);
  tokenizer.save(model);
  write_text_file(stamp, stamp_of(tokenizer));
  return tokenizer;
}

}  // namespace imhotep::executor
