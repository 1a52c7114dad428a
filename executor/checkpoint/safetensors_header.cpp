// The JSON header, read as a stream of events: no document is built, so nesting and size are
// bounded by what a valid header holds.

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/fail.h"
#include "executor/checkpoint/safetensors.h"

namespace imhotep::executor {
namespace {

constexpr std::size_t kMostDimensions = 16;
constexpr const char* kMetadata = "__metadata__";

class HeaderEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderEvents(SafetensorsHeader& header, const std::string& file) : header_(header), file_(file) {}

  bool null() override { refuse("null"); }
  bool boolean(bool) override { refuse("a boolean"); }
  bool number_integer(std::int64_t value) override { refuse(std::to_string(value)); }
  bool number_float(double, const std::string& text) override { refuse(text); }
  bool binary(nlohmann::json::binary_t&) override { refuse("binary data"); }

  bool number_unsigned(std::uint64_t value) override {
    if (depth_ != 3 || value > static_cast<std::uint64_t>(INT64_MAX)) refuse(std::to_string(value));
    numbers().push_back(static_cast<std::int64_t>(value));
    if (numbers().size() > kMostDimensions) refuse("too many numbers");
    return true;
  }

  bool string(std::string& value) override {
    if (depth_ == 2 && tensor_ == kMetadata) {
      header_.metadata[field_] = value;
    } else if (depth_ != 2 || field_ != "dtype") {
      refuse(fmt::format("\"{}\"", value.substr(0, 40)));
    } else if (!parse_enum(value, entry_.type)) {
      fail_input("{}: tensor \"{}\": expected a dtype such as F32 or BF16, got \"{}\"", file_,
                 tensor_, value.substr(0, 40));
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (++depth_ > 2) refuse("an object");
    if (depth_ == 2) {
      entry_ = {.name = tensor_, .type = {}, .shape = {}};
      offsets_.clear();
      fields_.clear();
    }
    return true;
  }

  bool key(std::string& name) override {
    if (depth_ == 1) {
      tensor_ = name;
      if (!names_.insert(name).second) fail_input("{}: duplicate tensor \"{}\"", file_, name);
      return true;
    }
    field_ = name;
    if (!fields_.insert(name).second) {
      fail_input("{}: \"{}\": duplicate key \"{}\"", file_, tensor_, name);
    }
    if (tensor_ != kMetadata && name != "dtype" && name != "shape" && name != "data_offsets") {
      fail_input("{}: tensor \"{}\": expected dtype, shape and data_offsets, got \"{}\"", file_,
                 tensor_, name);
    }
    return true;
  }

  bool end_object() override {
    if (depth_-- == 2 && tensor_ != kMetadata) finish_tensor();
    return true;
  }

  bool start_array(std::size_t) override {
    if (depth_ != 2 || tensor_ == kMetadata || field_ == "dtype") refuse("an array");
    ++depth_;
    return true;
  }

  bool end_array() override {
    --depth_;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    fail_input("{}: the header is not valid JSON at byte {}", file_, position);
  }

 private:
  [[noreturn]] void refuse(const std::string& got) const {
    const std::string where = depth_ == 0   ? "header"
                              : depth_ == 1 ? fmt::format("\"{}\"", tensor_)
                                            : fmt::format("\"{}\": {}", tensor_, field_);
    const char* expected = depth_ < 2             ? "an object"
                           : tensor_ == kMetadata ? "a string"
                           : field_ == "dtype"    ? "a string"
                                                  : "an array of whole numbers";
    fail_input("{}: {}: expected {}, got {}", file_, where, expected, got);
  }

  std::vector<std::int64_t>& numbers() { return field_ == "shape" ? entry_.shape : offsets_; }

  void finish_tensor() {
    if (fields_.size() != 3 || offsets_.size() != 2 || offsets_[0] > offsets_[1]) {
      fail_input("{}: tensor \"{}\": expected dtype, shape and two rising data_offsets", file_,
                 tensor_);
    }
    std::int64_t bytes = bytes_of(entry_.type);
    for (const std::int64_t size : entry_.shape) {
      if (__builtin_mul_overflow(bytes, size, &bytes)) bytes = -1;
      if (bytes < 0) break;
    }
    entry_.begin_bytes = offsets_[0];
    entry_.end_bytes = offsets_[1];
    if (bytes != offsets_[1] - offsets_[0]) {
      fail_input("{}: tensor \"{}\": expected {} bytes for {} {}, got {} (offsets {} to {})", file_,
                 tensor_, bytes < 0 ? "too many" : std::to_string(bytes), name_of(entry_.type),
                 shape_text(entry_.shape), offsets_[1] - offsets_[0], offsets_[0], offsets_[1]);
    }
    header_.tensors.push_back(std::move(entry_));
  }

  SafetensorsHeader& header_;
  const std::string& file_;
  int depth_ = 0;
  std::string tensor_, field_;
  TensorEntry entry_;
  std::vector<std::int64_t> offsets_;
  std::set<std::string> names_, fields_;
};

void check_tiling(const SafetensorsHeader& header, std::int64_t data_bytes,
                  const std::string& file) {
  std::int64_t at = 0;
  for (const TensorEntry& tensor : header.tensors) {
    if (tensor.begin_bytes != at) {
      fail_input("{}: tensor \"{}\": expected data offset {}, got {} ({})", file, tensor.name, at,
                 tensor.begin_bytes, tensor.begin_bytes < at ? "tensors overlap" : "a hole");
    }
    at = tensor.end_bytes;
  }
  if (at != data_bytes) {
    fail_input(
        "{}: {}: the tensors{} take {} bytes after the header, the file has {}", file,
        at > data_bytes ? "truncated" : "too long",
        header.tensors.empty() ? "" : fmt::format(" up to \"{}\"", header.tensors.back().name), at,
        data_bytes);
  }
}

}  // namespace

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

SafetensorsHeader parse_safetensors_header(std::string_view json, std::int64_t data_bytes,
                                           const std::string& file) {
  SafetensorsHeader header;
  if (!json.starts_with('{')) fail_input("{}: expected a header that begins with {{", file);
  HeaderEvents events(header, file);
  nlohmann::json::sax_parse(json.begin(), json.end(), &events);
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const TensorEntry& a, const TensorEntry& b) {
              return std::pair(a.begin_bytes, a.end_bytes) < std::pair(b.begin_bytes, b.end_bytes);
            });
  check_tiling(header, data_bytes, file);
  return header;
}

}  // namespace imhotep::executor
