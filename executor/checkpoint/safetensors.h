#pragma once
// The safetensors format: 8 bytes with the size of the header, a JSON header, then the tensors
// without gaps. A reader that trusts nothing, and a writer that many processes share.
// Source: github.com/huggingface/safetensors, README, "Format".

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/base/dtype.h"
#include "executor/checkpoint/element.h"

namespace imhotep::executor {

struct TensorEntry {
  std::string name;
  ElementType type = ElementType::F32;
  std::vector<std::int64_t> shape;
  std::int64_t begin_bytes = 0, end_bytes = 0;  // from the start of the data section

  [[nodiscard]] std::int64_t elements() const { return (end_bytes - begin_bytes) / bytes_of(type); }
};

[[nodiscard]] std::string shape_text(const std::vector<std::int64_t>& shape);  // "[3, 64, 64]"

using TensorMetadata = std::map<std::string, std::string>;

struct SafetensorsHeader {
  std::vector<TensorEntry> tensors;  // by offset
  TensorMetadata metadata;
};

// `file` names the file in errors; `data_bytes` is what follows the header.
// Throws: Error(Input) on anything but a valid header whose tensors tile the data exactly.
[[nodiscard]] SafetensorsHeader parse_safetensors_header(std::string_view json,
                                                         std::int64_t data_bytes,
                                                         const std::string& file);

struct ElementRange {
  std::int64_t first = 0, count = 0;  // elements of one tensor
};

// Reads by position, not through memory: what is loaded does not count twice as resident, and a
// file cut short meanwhile is an error, not a signal.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(std::string file);  // Throws: Error(Input)
  SafetensorsFile(SafetensorsFile&& other) noexcept;
  SafetensorsFile& operator=(SafetensorsFile&&) = delete;
  ~SafetensorsFile();

  [[nodiscard]] const std::string& file() const { return file_; }
  [[nodiscard]] const SafetensorsHeader& header() const { return header_; }
  [[nodiscard]] const TensorEntry* find(const std::string& name) const;
  [[nodiscard]] std::int64_t data_bytes() const { return data_bytes_; }
  // Copies part of a tensor, converted to `dtype`; adds its checksum (element.h) where `sum` is
  // given. Throws: Error(Input) when the type does not convert or the file cannot be read.
  void read(const TensorEntry& tensor, ElementRange range, void* target, Dtype dtype,
            std::uint64_t* sum = nullptr) const;

 private:
  void read_bytes(std::int64_t offset, void* target, std::int64_t bytes) const;

  std::string file_;
  int descriptor_ = -1;
  std::int64_t data_begin_ = 0, data_bytes_ = 0;
  SafetensorsHeader header_;
  std::unordered_map<std::string, std::size_t> index_;
};

// One file written by many processes: each lays out the same header, one creates the file, and
// then all write the ranges they own.
class SafetensorsWriter {
 public:
  // Offsets follow the order of `tensors`, whose begin and end are ignored.
  SafetensorsWriter(std::string file, std::vector<TensorEntry> tensors,
                    const TensorMetadata& metadata);
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;
  ~SafetensorsWriter();

  // All throw Error(Failed) with the file and the cause.
  void create();  // by one process: reserves every byte, so that a full disk is seen here
  void open();    // by every process, after create()
  void write(const std::string& tensor, ElementRange range, const void* elements);
  void close();  // to the disk: write errors that were delayed are seen here

  [[nodiscard]] std::int64_t file_bytes() const;
  [[nodiscard]] const TensorEntry& find(const std::string& tensor) const;

 private:
  [[noreturn]] void refuse(const char* action, int error) const;
  void write_bytes(std::int64_t offset, const void* data, std::int64_t bytes) const;

  std::string file_, header_;
  std::vector<TensorEntry> tensors_;
  std::unordered_map<std::string, std::size_t> index_;
  int descriptor_ = -1;
};

}  // namespace imhotep::executor
