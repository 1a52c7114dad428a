#pragma once
// Reads many pieces of files at once: threads read, sum up and convert in batches of a few MiB, so
// that a disk always has several requests at hand. On a CPU they write to where the pieces belong;
// for a device they fill buffers that the calling thread hands on while the next are read.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "executor/checkpoint/safetensors.h"

namespace imhotep::executor {

// Memory that threads cannot write to. Its functions are called by one thread.
class Landing {
 public:
  Landing() = default;
  Landing(const Landing&) = delete;
  Landing& operator=(const Landing&) = delete;
  virtual ~Landing() = default;

  // Memory of the host to fill, whole for as long as the landing lives; called once.
  [[nodiscard]] virtual std::byte* buffers(std::int64_t bytes) = 0;
  // Copies a part of the buffers to `target`. Async: until settle() `from` stays as it is.
  virtual void deliver(void* target, const std::byte* from, std::int64_t bytes) = 0;
  virtual void settle() = 0;
};

struct ReadJob {
  const SafetensorsFile* file = nullptr;
  const TensorEntry* tensor = nullptr;
  ElementRange range;
  std::byte* target = nullptr;  // of the first element, in `dtype`
  Dtype dtype = Dtype::F32;
  std::uint64_t* sum = nullptr;  // gets the checksum added; may be shared by jobs
};

struct ReadOptions {
  int readers = 4;             // threads
  Landing* landing = nullptr;  // null: targets are memory of the host
  // Called by the calling thread some ten times a second and at the end. Units: bytes of targets.
  std::function<void(std::int64_t done, std::int64_t all)> progress;
};

// Throws: what SafetensorsFile::read throws, of the first job that failed, after all have stopped.
void read_pieces(const std::vector<ReadJob>& jobs, const ReadOptions& options);

}  // namespace imhotep::executor
