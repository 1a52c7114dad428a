#pragma once
// All memory of one rank: exactly the buffers its programs name, and nothing else.
//
// Regions (weights, gradients, optimizer state), KV pools and inputs are shared between programs:
// a buffer is known by kind, name, layer and its place among buffers of that name. Arena buffers
// of all programs share one arena, as large as the largest program needs.
// Pages come from the kernel zeroed and untouched, so an unused bound costs no memory.

#include <cstddef>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "core/program/program.h"

namespace imhotep::executor {

// One anonymous mapping, huge pages where the kernel grants them.
class Mapping {
 public:
  Mapping() = default;
  explicit Mapping(std::int64_t bytes);  // Throws: Failed, naming the bytes
  ~Mapping();
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::int64_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::int64_t bytes_ = 0;
};

class Memory {
 public:
  explicit Memory(const std::vector<program::Program>& programs);

  // The address of each buffer of a program, by buffer index.
  // Requires: the program is one of those the memory was made for, or needs no more than they do.
  [[nodiscard]] std::vector<std::byte*> addresses(const program::Program& program) const;

  // Shared buffers by name; ordinal counts buffers of that name (regions). Throws: Failed.
  [[nodiscard]] std::byte* find(program::BufferKind kind, const std::string& name,
                                int ordinal = 0) const;
  [[nodiscard]] std::int64_t bytes() const;
  [[nodiscard]] std::int64_t arena_bytes() const { return arena_.bytes(); }

 private:
  using Key = std::tuple<program::BufferKind, std::string, int, int>;  // layer, ordinal
  static std::vector<Key> keys_of(const program::Program& program);

  std::map<Key, Mapping> shared_;
  Mapping arena_;
};

// Bytes of physical memory this process may still use: cgroup limit or MemAvailable.
[[nodiscard]] std::int64_t available_memory_bytes();
// Resident set of this process.
[[nodiscard]] std::int64_t resident_memory_bytes();

}  // namespace imhotep::executor
