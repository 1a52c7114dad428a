#include "executor/runtime/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "core/base/fail.h"
#include "core/base/units.h"
#include "kernels/cuda_api.h"

namespace imhotep::executor {
namespace {

constexpr std::int64_t kHugePage = 2 << 20;

bool in_arena(program::BufferKind kind) {
  return kind == program::BufferKind::Activation || kind == program::BufferKind::Exchange ||
         kind == program::BufferKind::Scratch;
}

// Number after `key` in a file of "key: value kB" lines, in bytes; -1 when absent.
std::int64_t kilobytes_of(const char* file, const std::string& key) {
  std::ifstream stream(file);
  std::string word;
  while (stream >> word) {
    std::int64_t value = 0;
    if (word == key && stream >> value) return value * 1024;
  }
  return -1;
}

std::int64_t number_in(const char* file) {
  std::ifstream stream(file);
  std::int64_t value = -1;
  return stream >> value ? value : -1;
}

}  // namespace

Mapping::Mapping(std::int64_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  void* address = mmap(nullptr, static_cast<std::size_t>(bytes), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) {
    fail("cannot allocate {}: {}", format_bytes(static_cast<double>(bytes)), std::strerror(errno));
  }
  if (bytes >= kHugePage) madvise(address, static_cast<std::size_t>(bytes), MADV_HUGEPAGE);
  data_ = static_cast<std::byte*>(address);
}

Mapping::~Mapping() {
  if (data_ != nullptr) munmap(data_, static_cast<std::size_t>(bytes_));
}

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

CudaBlock::CudaBlock(Place place, std::int64_t bytes) : place_(place), bytes_(bytes) {
  if (bytes == 0) return;
  const kernels::CudaApi& api = kernels::cuda_api();
  if (place == Place::Host) {
    data_ = static_cast<std::byte*>(api.allocate_host(bytes));
    std::memset(data_, 0, static_cast<std::size_t>(bytes));
    return;
  }
  data_ = static_cast<std::byte*>(api.allocate(bytes));
  api.set(data_, 0, bytes, nullptr);
  api.wait(nullptr);
}

CudaBlock::~CudaBlock() {
  if (data_ == nullptr) return;
  const kernels::CudaApi& api = kernels::cuda_api();
  place_ == Place::Host ? api.release_host(data_) : api.release(data_);
}

CudaBlock::CudaBlock(CudaBlock&& other) noexcept
    : place_(other.place_),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

CudaBlock& CudaBlock::operator=(CudaBlock&& other) noexcept {
  std::swap(place_, other.place_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

std::vector<Memory::Key> Memory::keys_of(const program::Program& program) {
  std::vector<Key> keys;
  std::map<std::tuple<program::BufferKind, std::string, int>, int> seen;
  for (const program::Buffer& buffer : program.buffers) {
    const int ordinal = seen[{buffer.kind, buffer.name, buffer.layer}]++;
    keys.emplace_back(buffer.kind, buffer.name, buffer.layer, ordinal);
  }
  return keys;
}

Memory::Piece Memory::reserve(std::int64_t bytes) {
  if (device_ == kernels::Device::Cuda) {
    blocks_.emplace_back(CudaBlock::Place::Device, bytes);
    return {.address = blocks_.back().data(), .bytes = bytes};
  }
  mappings_.emplace_back(bytes);
  return {.address = mappings_.back().data(), .host = mappings_.back().data(), .bytes = bytes};
}

// Side by side, so that one copy carries them all; the fault records come last.
void Memory::place_inputs(const std::map<Key, std::int64_t>& needed, int layers) {
  constexpr std::int64_t kAlignment = 256;
  std::map<Key, std::int64_t> offsets;
  for (const auto& [key, bytes] : needed) {
    if (std::get<0>(key) != program::BufferKind::Input) continue;
    offsets[key] = inputs_.bytes;
    inputs_.bytes += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  inputs_.fault_offset = inputs_.bytes;
  inputs_.faults = layers + 1;
  inputs_.bytes += inputs_.faults * static_cast<std::int64_t>(sizeof(kernels::FaultRecord));
  blocks_.emplace_back(CudaBlock::Place::Host, inputs_.bytes);
  inputs_.host = blocks_.back().data();
  blocks_.emplace_back(CudaBlock::Place::Device, inputs_.bytes);
  inputs_.device = blocks_.back().data();
  for (const auto& [key, offset] : offsets) {
    shared_[key] = {
        .address = inputs_.device + offset, .host = inputs_.host + offset, .bytes = needed.at(key)};
  }
}

Memory::Memory(const std::vector<program::Program>& programs, kernels::Device device)
    : device_(device) {
  std::map<Key, std::int64_t> needed;
  std::int64_t arena = 0;
  int layers = 0;
  for (const program::Program& program : programs) {
    arena = std::max(arena, program.arena_bytes);
    for (const program::Operation& operation : program.operations) {
      layers = std::max(layers, operation.layer + 1);
    }
    const std::vector<Key> keys = keys_of(program);
    for (std::size_t i = 0; i < keys.size(); ++i) {
      if (in_arena(program.buffers[i].kind)) continue;
      std::int64_t& bytes = needed[keys[i]];
      bytes = std::max(bytes, program.buffers[i].bytes());
    }
  }
  if (device == kernels::Device::Cuda) place_inputs(needed, layers);
  for (const auto& [key, bytes] : needed) {
    if (!shared_.contains(key)) shared_.emplace(key, reserve(bytes));
  }
  arena_ = reserve(arena);
}

std::vector<std::byte*> Memory::addresses(const program::Program& program) const {
  if (program.arena_bytes > arena_.bytes) {
    fail("program needs an arena of {} bytes, {} are there", program.arena_bytes, arena_.bytes);
  }
  std::vector<std::byte*> addresses;
  const std::vector<Key> keys = keys_of(program);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const program::Buffer& buffer = program.buffers[i];
    if (in_arena(buffer.kind)) {
      addresses.push_back(arena_.address + buffer.offset);
      continue;
    }
    const auto found = shared_.find(keys[i]);
    if (found == shared_.end() || found->second.bytes < buffer.bytes()) {
      fail("buffer \"{}\" of layer {} was not reserved", buffer.name, buffer.layer);
    }
    addresses.push_back(found->second.address);
  }
  return addresses;
}

std::byte* Memory::find(program::BufferKind kind, const std::string& name, int ordinal) const {
  const auto found = shared_.find({kind, name, -1, ordinal});
  if (found == shared_.end()) fail("no buffer \"{}\" ({})", name, ordinal);
  return kind == program::BufferKind::Input ? found->second.host : found->second.address;
}

std::byte* Memory::workspace() const {
  const auto found = shared_.find({program::BufferKind::Workspace, "workspace", -1, 0});
  return found == shared_.end() ? nullptr : found->second.address;
}

std::int64_t Memory::bytes() const {
  std::int64_t total = arena_.bytes;
  for (const auto& [key, piece] : shared_) total += piece.bytes;
  return total;
}

std::int64_t available_memory_bytes() {
  std::int64_t available = kilobytes_of("/proc/meminfo", "MemAvailable:");
  const std::int64_t limit = number_in("/sys/fs/cgroup/memory.max");
  const std::int64_t used = number_in("/sys/fs/cgroup/memory.current");
  if (limit > 0 && used >= 0) available = std::min(available, limit - used);
  return available;
}

std::int64_t resident_memory_bytes() {
  std::ifstream stream("/proc/self/statm");
  std::int64_t size = 0, resident = 0;
  stream >> size >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

}  // namespace imhotep::executor
