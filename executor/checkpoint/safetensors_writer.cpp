#include <fcntl.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/base/fail.h"
#include "executor/checkpoint/safetensors.h"

namespace imhotep::executor {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little endian");

constexpr std::size_t kHeaderAlignment = 64;  // the data begins on a cache line

// Assigns offsets and returns the size field and the header, padded with spaces.
std::string lay_out(std::vector<TensorEntry>& tensors, const TensorMetadata& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::int64_t at = 0;
  for (TensorEntry& tensor : tensors) {
    std::int64_t bytes = bytes_of(tensor.type);
    for (const std::int64_t size : tensor.shape) bytes *= size;
    tensor.begin_bytes = at;
    tensor.end_bytes = at += bytes;
    header[tensor.name] = {{"dtype", name_of(tensor.type)},
                           {"shape", tensor.shape},
                           {"data_offsets", {tensor.begin_bytes, tensor.end_bytes}}};
  }
  std::string json = header.dump();
  json.resize((json.size() + 8 + kHeaderAlignment - 1) / kHeaderAlignment * kHeaderAlignment - 8,
              ' ');
  const std::uint64_t size = json.size();
  return std::string(reinterpret_cast<const char*>(&size), sizeof size) + json;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(std::string file, std::vector<TensorEntry> tensors,
                                     const TensorMetadata& metadata)
    : file_(std::move(file)), tensors_(std::move(tensors)) {
  header_ = lay_out(tensors_, metadata);
  for (std::size_t i = 0; i < tensors_.size(); ++i) index_[tensors_[i].name] = i;
}

SafetensorsWriter::~SafetensorsWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void SafetensorsWriter::refuse(const char* action, int error) const {
  fail("{}: cannot {}: {}", file_, action, std::strerror(error));
}

std::int64_t SafetensorsWriter::file_bytes() const {
  const std::int64_t data = tensors_.empty() ? 0 : tensors_.back().end_bytes;
  return static_cast<std::int64_t>(header_.size()) + data;
}

const TensorEntry& SafetensorsWriter::find(const std::string& tensor) const {
  const auto found = index_.find(tensor);
  if (found == index_.end()) fail("{}: no tensor \"{}\" in the layout", file_, tensor);
  return tensors_[found->second];
}

void SafetensorsWriter::create() {
  descriptor_ = ::open(file_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor_ < 0) refuse("create", errno);
  if (::ftruncate(descriptor_, file_bytes()) != 0) {
    refuse(fmt::format("reserve {} bytes", file_bytes()).c_str(), errno);
  }
  if (const int error = ::posix_fallocate(descriptor_, 0, file_bytes()); error != 0) {
    refuse(fmt::format("reserve {} bytes", file_bytes()).c_str(), error);
  }
  write_bytes(0, header_.data(), static_cast<std::int64_t>(header_.size()));
}

void SafetensorsWriter::open() {
  if (descriptor_ >= 0) return;
  descriptor_ = ::open(file_.c_str(), O_WRONLY | O_CLOEXEC);
  if (descriptor_ < 0) refuse("write", errno);
}

void SafetensorsWriter::write(const std::string& tensor, ElementRange range, const void* elements) {
  const TensorEntry& entry = find(tensor);
  if (range.first < 0 || range.first > entry.elements() - range.count) {
    fail("{}: tensor \"{}\": elements {} to {} written, it has {}", file_, tensor, range.first,
         range.first + range.count, entry.elements());
  }
  const std::int64_t size = bytes_of(entry.type);
  write_bytes(static_cast<std::int64_t>(header_.size()) + entry.begin_bytes + range.first * size,
              elements, range.count * size);
}

void SafetensorsWriter::write_bytes(std::int64_t offset, const void* data,
                                    std::int64_t bytes) const {
  const auto* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t put = ::pwrite(descriptor_, from, static_cast<std::size_t>(bytes), offset);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) refuse("write", errno);
    from += put;
    offset += put;
    bytes -= put;
  }
}

void SafetensorsWriter::close() {
  if (descriptor_ < 0) return;
  const int sync_error = ::fsync(descriptor_) == 0 ? 0 : errno;
  const int close_error = ::close(descriptor_) == 0 ? 0 : errno;
  descriptor_ = -1;
  const int error = sync_error != 0 ? sync_error : close_error;
  if (error != 0) refuse("write", error);
}

}  // namespace imhotep::executor
