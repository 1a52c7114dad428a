#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/base/content_hash.h"
#include "core/base/fail.h"
#include "executor/checkpoint/safetensors.h"

namespace imhotep::executor {
namespace {

constexpr std::int64_t kMostHeaderBytes = 100'000'000;  // as the reference reader allows
constexpr std::int64_t kChunkBytes = 1 << 20;           // read, summed and converted in cache

}  // namespace

SafetensorsFile::SafetensorsFile(std::string file) : file_(std::move(file)) {
  descriptor_ = ::open(file_.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) fail_input("{}: cannot read: {}", file_, std::strerror(errno));
  try {
    struct stat status {};
    if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
      fail_input("{}: expected a file", file_);
    }
    std::uint64_t header_bytes = 0;
    if (status.st_size < 8) {
      fail_input("{}: truncated: expected at least 8 bytes, got {}", file_, status.st_size);
    }
    read_bytes(0, &header_bytes, 8);
    if (header_bytes > static_cast<std::uint64_t>(kMostHeaderBytes)) {
      fail_input("{}: expected a header of at most {} bytes, got {}: not a safetensors file", file_,
                 kMostHeaderBytes, header_bytes);
    }
    data_begin_ = 8 + static_cast<std::int64_t>(header_bytes);
    data_bytes_ = status.st_size - data_begin_;
    if (data_bytes_ < 0) {
      fail_input("{}: truncated: expected a header of {} bytes, the file has {}", file_,
                 header_bytes, status.st_size);
    }
    std::string json(header_bytes, '\0');
    read_bytes(8, json.data(), data_begin_ - 8);
    header_ = parse_safetensors_header(json, data_bytes_, file_);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
  for (std::size_t i = 0; i < header_.tensors.size(); ++i) index_[header_.tensors[i].name] = i;
}

SafetensorsFile::SafetensorsFile(SafetensorsFile&& other) noexcept
    : file_(std::move(other.file_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      data_begin_(other.data_begin_),
      data_bytes_(other.data_bytes_),
      header_(std::move(other.header_)),
      index_(std::move(other.index_)) {}

SafetensorsFile::~SafetensorsFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

const TensorEntry* SafetensorsFile::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &header_.tensors[found->second];
}

void SafetensorsFile::read_bytes(std::int64_t offset, void* target, std::int64_t bytes) const {
  auto* to = static_cast<char*>(target);
  while (bytes > 0) {
    const ssize_t got = ::pread(descriptor_, to, static_cast<std::size_t>(bytes), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_input("{}: cannot read: {}", file_, std::strerror(errno));
    if (got == 0) fail_input("{}: truncated: expected {} more bytes at {}", file_, bytes, offset);
    to += got;
    offset += got;
    bytes -= got;
  }
}

void SafetensorsFile::read(const TensorEntry& tensor, ElementRange range, void* target, Dtype dtype,
                           std::uint64_t* sum) const {
  if (!convertible(tensor.type, dtype)) {
    fail_input("{}: tensor \"{}\": expected a type that converts to {}, got {}", file_, tensor.name,
               name_of(element_type(dtype)), name_of(tensor.type));
  }
  if (range.first < 0 || range.count < 0 || range.first > tensor.elements() - range.count) {
    fail("{}: tensor \"{}\": elements {} to {} asked for, it has {}", file_, tensor.name,
         range.first, range.first + range.count, tensor.elements());
  }
  const std::int64_t size = bytes_of(tensor.type), step = kChunkBytes / size;
  const bool same = tensor.type == element_type(dtype);
  const std::uint64_t name_hash = sum == nullptr ? 0 : fnv1a(tensor.name);
  std::vector<char> chunk(same ? 0 : std::min(range.count, step) * size);
  for (std::int64_t done = 0; done < range.count; done += step) {
    const std::int64_t first = range.first + done, count = std::min(step, range.count - done);
    char* out = static_cast<char*>(target) + done * bytes_of(dtype);
    char* raw = same ? out : chunk.data();
    read_bytes(data_begin_ + tensor.begin_bytes + first * size, raw, count * size);
    if (sum != nullptr) *sum += checksum(name_hash, first, raw, count, size);
    if (!same) convert(raw, tensor.type, out, dtype, count);
  }
}

}  // namespace imhotep::executor
