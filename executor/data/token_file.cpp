#include "executor/data/token_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "core/base/fail.h"

namespace imhotep::executor {
namespace {

constexpr char kMagic[8] = {'I', 'M', 'H', 'O', 'T', 'O', 'K', 'N'};
constexpr std::uint32_t kVersion = 1;
constexpr std::int64_t kNarrowVocab = 1 << 16;  // ids of a smaller vocabulary take 2 bytes

struct Header {
  char magic[8] = {};
  std::uint32_t version = 0;
  std::uint32_t width = 0;
  std::uint64_t count = 0;
  std::uint64_t vocab = 0;
  std::uint64_t tokenizer_hash = 0;
  std::uint64_t text_fingerprint = 0;
  std::uint64_t reserved[2] = {};
};
static_assert(sizeof(Header) == 64);

std::uint32_t width_for(std::int64_t vocab) { return vocab <= kNarrowVocab ? 2 : 4; }

Header read_header(const std::string& file, std::string_view bytes) {
  Header header;
  if (bytes.size() >= sizeof kMagic && std::memcmp(bytes.data(), kMagic, sizeof kMagic) != 0) {
    fail_input("{}: expected a token file (it begins \"IMHOTOKN\"), got another kind of file",
               file);
  }
  if (bytes.size() < sizeof header) {
    fail_input("{}: truncated: expected a header of {} bytes, got {}", file, sizeof header,
               bytes.size());
  }
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.version != kVersion) {
    fail_input("{}: expected token file version {}, got {}", file, kVersion, header.version);
  }
  const bool known = header.width == 2 || header.width == 4;
  if (!known || header.vocab < 1 || header.vocab > std::uint64_t{1} << 31) {
    fail_input("{}: damaged header: ids of {} bytes, a vocabulary of {}", file, header.width,
               header.vocab);
  }
  const std::uint64_t held = bytes.size() - sizeof header;
  if (header.count > held / header.width || header.count * header.width != held) {
    fail_input("{}: {}: expected {} tokens of {} bytes after the header, got {} bytes", file,
               header.count > held / header.width ? "truncated" : "too long", header.count,
               header.width, held);
  }
  return header;
}

template <class Id>
std::int64_t copy_ids(const char* from, std::span<std::int32_t> out) {
  std::int64_t largest = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    Id id = 0;
    std::memcpy(&id, from + i * sizeof id, sizeof id);
    largest = std::max<std::int64_t>(largest, id);
    out[i] = static_cast<std::int32_t>(id);
  }
  return largest;
}

}  // namespace

TokenFile::TokenFile(const std::string& file) : mapped_(file) {
  const Header header = read_header(file, mapped_.bytes());
  info_ = {.vocab = static_cast<std::int64_t>(header.vocab),
           .tokenizer_hash = header.tokenizer_hash,
           .text_fingerprint = header.text_fingerprint};
  width_ = static_cast<int>(header.width);
  count_ = static_cast<std::int64_t>(header.count);
}

void TokenFile::expect_tokenizer(std::uint64_t hash) const {
  if (hash == info_.tokenizer_hash) return;
  fail_input("{}: wrong tokenizer: the tokens were written by tokenizer {:016x}, got {:016x}",
             file(), info_.tokenizer_hash, hash);
}

void TokenFile::read(std::int64_t begin, std::span<std::int32_t> out) const {
  const auto size = static_cast<std::int64_t>(out.size());
  if (begin < 0 || size > count_ - begin) {
    fail("{}: tokens {} to {} asked for, there are {}", file(), begin, begin + size, count_);
  }
  const char* from = mapped_.bytes().data() + sizeof(Header) + begin * width_;
  const std::int64_t largest =
      width_ == 2 ? copy_ids<std::uint16_t>(from, out) : copy_ids<std::uint32_t>(from, out);
  if (largest >= info_.vocab) {
    fail_input("{}: damaged: token {} found in tokens {} to {}, the vocabulary has {}", file(),
               largest, begin, begin + size, info_.vocab);
  }
}

TokenFileWriter::TokenFileWriter(std::string file, const TokenFileInfo& info)
    : file_(std::move(file)), temporary_(fmt::format("{}.tmp{}", file_, getpid())), info_(info) {
  stream_ = std::fopen(temporary_.c_str(), "wb");
  if (stream_ == nullptr) refuse(errno);
  write_header();
}

TokenFileWriter::~TokenFileWriter() {
  if (stream_ == nullptr) return;
  std::fclose(stream_);
  std::remove(temporary_.c_str());
}

void TokenFileWriter::refuse(int error) const {
  fail("{}: cannot write: {}", file_, std::strerror(error));
}

void TokenFileWriter::write(const void* data, std::size_t bytes) {
  if (std::fwrite(data, 1, bytes, stream_) != bytes) refuse(errno);
}

void TokenFileWriter::write_header() {
  Header header{.version = kVersion,
                .width = width_for(info_.vocab),
                .count = static_cast<std::uint64_t>(count_),
                .vocab = static_cast<std::uint64_t>(info_.vocab),
                .tokenizer_hash = info_.tokenizer_hash,
                .text_fingerprint = info_.text_fingerprint};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  write(&header, sizeof header);
}

void TokenFileWriter::append(std::span<const std::int32_t> tokens) {
  for (const std::int32_t token : tokens) {
    if (token < 0 || token >= info_.vocab) {
      fail("{}: token {} in a vocabulary of {}", file_, token, info_.vocab);
    }
  }
  if (width_for(info_.vocab) == 2) {
    const std::vector<std::uint16_t> narrow(tokens.begin(), tokens.end());
    write(narrow.data(), narrow.size() * sizeof(std::uint16_t));
  } else {
    write(tokens.data(), tokens.size_bytes());
  }
  count_ += static_cast<std::int64_t>(tokens.size());
}

void TokenFileWriter::finish() {
  if (std::fseek(stream_, 0, SEEK_SET) != 0) refuse(errno);
  write_header();
  if (std::fflush(stream_) != 0 || ::fsync(fileno(stream_)) != 0) refuse(errno);
  if (std::rename(temporary_.c_str(), file_.c_str()) != 0) refuse(errno);
  std::fclose(stream_);
  stream_ = nullptr;
}

}  // namespace imhotep::executor
