#include "executor/data/tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <utility>

#include "core/base/content_hash.h"
#include "core/base/fail.h"
#include "core/base/json_document.h"
#include "executor/data/utf8.h"

namespace imhotep::executor {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581: how pieces write a space

std::string with_spaces(std::string_view piece) {
  std::string text;
  for (std::size_t at = 0; at < piece.size();) {
    const bool space = piece.substr(at).starts_with(kSpaceMark);
    text += space ? ' ' : piece[at];
    at += space ? kSpaceMark.size() : 1;
  }
  return text;
}

// Bytes from `at` that pieces may hold; 0 where a byte token has to be written.
std::size_t piece_character(std::string_view text, std::size_t at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte < 0x20 || byte == 0x7F || text.substr(at).starts_with(kSpaceMark)) return 0;
  return character_bytes(text, at);
}

}  // namespace

struct Tokenizer::Model {
  sentencepiece::SentencePieceProcessor pieces;
};

Tokenizer::Tokenizer() : processor_(std::make_unique<Model>()) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::load(const std::string& file) { return parse(read_text_file(file), file); }

Tokenizer Tokenizer::parse(std::string model, const std::string& name) {
  Tokenizer tokenizer;
  const auto status = tokenizer.processor_->pieces.LoadFromSerializedProto(model);
  if (!status.ok()) fail_input("{}: not a SentencePiece model: {}", name, status.ToString());
  tokenizer.hash_ = fnv1a(model);
  tokenizer.model_ = std::move(model);
  tokenizer.index_pieces(name);
  constexpr std::string_view kProbe = " a  b\n\xC3\xA9 ";
  if (tokenizer.decode(tokenizer.encode(kProbe)) != kProbe) {
    fail_input(
        "{}: expected a SentencePiece model that keeps text as it is (normalisation "
        "\"identity\", no dummy prefix, extra spaces kept), got one that changes it",
        name);
  }
  return tokenizer;
}

void Tokenizer::index_pieces(const std::string& name) {
  const auto& model = processor_->pieces;
  const int count = model.GetPieceSize();
  std::fill_n(byte_tokens_, 256, -1);
  for (int id = 0; id < count; ++id) {
    const std::string& piece = model.IdToPiece(id);
    if (model.IsByte(id)) {
      const auto byte = static_cast<unsigned char>(std::stoi(piece.substr(3, 2), nullptr, 16));
      byte_tokens_[byte] = id;
      pieces_.emplace_back(1, static_cast<char>(byte));
    } else if (model.IsControl(id) || model.IsUnused(id)) {
      pieces_.emplace_back();
    } else {
      pieces_.push_back(model.IsUnknown(id) ? std::string(kReplacementCharacter)
                                            : with_spaces(piece));
    }
  }
  separator_ = model.eos_id();
  const auto bytes =
      std::count_if(byte_tokens_, byte_tokens_ + 256, [](int id) { return id >= 0; });
  if (bytes != 256 || separator_ < 0) {
    fail_input(
        "{}: expected a SentencePiece model with 256 byte pieces and </s>, got {} byte "
        "pieces{}",
        name, bytes, separator_ < 0 ? " and no </s>" : "");
  }
}

std::string Tokenizer::hash_text() const { return content_hash(model_); }

void Tokenizer::save(const std::string& file) const { write_text_file(file, model_); }

void Tokenizer::encode_run(std::string_view text, std::vector<std::int32_t>& tokens) const {
  std::vector<int> ids;
  const auto status = processor_->pieces.Encode({text.data(), text.size()}, &ids);
  if (!status.ok()) fail("cannot encode {} bytes of text: {}", text.size(), status.ToString());
  tokens.insert(tokens.end(), ids.begin(), ids.end());
}

void Tokenizer::encode(std::string_view text, std::vector<std::int32_t>& tokens) const {
  std::size_t run = 0, at = 0;
  while (at < text.size()) {
    const std::size_t bytes = piece_character(text, at);
    if (bytes > 0) {
      at += bytes;
      continue;
    }
    if (at > run) encode_run(text.substr(run, at - run), tokens);
    const std::size_t end = at + (text.substr(at).starts_with(kSpaceMark) ? kSpaceMark.size() : 1);
    for (; at < end; ++at) tokens.push_back(byte_tokens_[static_cast<unsigned char>(text[at])]);
    run = at;
  }
  if (at > run) encode_run(text.substr(run), tokens);
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<std::int32_t> tokens;
  encode(text, tokens);
  return tokens;
}

std::string_view Tokenizer::bytes_of(std::int32_t token) const {
  return token >= 0 && token < vocab() ? std::string_view(pieces_[token]) : kReplacementCharacter;
}

std::string Tokenizer::decode(std::span<const std::int32_t> tokens) const {
  std::string text;
  for (const std::int32_t token : tokens) text += bytes_of(token);
  return text;
}

std::string TextStream::add(std::int32_t token) {
  held_ += tokenizer_.bytes_of(token);
  std::size_t begin = held_.size();
  const std::string rest = ends_inside_character(held_, begin) ? held_.substr(begin) : "";
  held_.resize(held_.size() - rest.size());
  return repair_utf8(std::exchange(held_, rest)).text;
}

std::string TextStream::finish() { return repair_utf8(std::exchange(held_, {})).text; }

}  // namespace imhotep::executor
