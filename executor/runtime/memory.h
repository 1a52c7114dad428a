#pragma once
// All memory of one rank: exactly the buffers its programs name, and nothing else.
//
// Regions (weights, gradients, optimizer state), KV pools and inputs are shared between programs:
// a buffer is known by kind, name, layer and its place among buffers of that name. Arena buffers
// of all programs share one arena, as large as the largest program needs.
// On a CPU, pages come from the kernel zeroed and untouched, so an unused bound costs no memory.
// On a GPU everything is device memory, zeroed; inputs lie together and have a twin in page-locked
// host memory, so that one copy carries them all.

#include <cstddef>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "core/program/program.h"
#include "kernels/queue.h"

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

// Memory of the current GPU, or page-locked memory of the host.
class CudaBlock {
 public:
  enum class Place { Device, Host };
  CudaBlock() = default;
  CudaBlock(Place place, std::int64_t bytes);  // Throws: Failed, naming the bytes and what is free
  ~CudaBlock();
  CudaBlock(CudaBlock&& other) noexcept;
  CudaBlock& operator=(CudaBlock&& other) noexcept;
  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::int64_t bytes() const { return bytes_; }

 private:
  Place place_ = Place::Device;
  std::byte* data_ = nullptr;
  std::int64_t bytes_ = 0;
};

class Memory {
 public:
  explicit Memory(const std::vector<program::Program>& programs,
                  kernels::Device device = kernels::Device::Cpu);

  // The address of each buffer of a program, by buffer index; device addresses on a GPU.
  // Requires: the program is one of those the memory was made for, or needs no more than they do.
  [[nodiscard]] std::vector<std::byte*> addresses(const program::Program& program) const;

  // Shared buffers by name; ordinal counts buffers of that name (regions). Inputs: their address
  // on the host. Throws: Failed.
  [[nodiscard]] std::byte* find(program::BufferKind kind, const std::string& name,
                                int ordinal = 0) const;
  [[nodiscard]] std::int64_t bytes() const;
  // One allocation: activations, exchange buffers, scratch.
  [[nodiscard]] std::byte* arena() const { return arena_.address; }
  [[nodiscard]] std::int64_t arena_bytes() const { return arena_.bytes; }

  // On a GPU: all inputs, and fault records after them, on either side: of what has no layer, and
  // of every layer.
  struct Inputs {
    std::byte *host = nullptr, *device = nullptr;
    std::int64_t bytes = 0;
    std::int64_t fault_offset = 0;
    int faults = 0;
  };
  [[nodiscard]] const Inputs& inputs() const { return inputs_; }
  // nullptr on a CPU.
  [[nodiscard]] std::byte* workspace() const;

 private:
  using Key = std::tuple<program::BufferKind, std::string, int, int>;  // layer, ordinal
  struct Piece {
    std::byte *address = nullptr, *host = nullptr;
    std::int64_t bytes = 0;
  };
  static std::vector<Key> keys_of(const program::Program& program);
  Piece reserve(std::int64_t bytes);
  void place_inputs(const std::map<Key, std::int64_t>& needed, int layers);

  kernels::Device device_;
  std::map<Key, Piece> shared_;
  Piece arena_;
  Inputs inputs_;
  std::vector<Mapping> mappings_;
  std::vector<CudaBlock> blocks_;
};

// Bytes of physical memory this process may still use: cgroup limit or MemAvailable.
[[nodiscard]] std::int64_t available_memory_bytes();
// Resident set of this process.
[[nodiscard]] std::int64_t resident_memory_bytes();

}  // namespace imhotep::executor
