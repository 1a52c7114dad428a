#pragma once
// The seam to libimhotep_cuda.so: one table of functions. The library is loaded on first use, so
// that imhotep starts, plans and runs CPU ranks on a machine without CUDA, and links none of it.
// Every function throws Error(Failed) with CUDA's own words when a call fails; "Async" ones return
// before the work is done. Streams, events, graphs and contexts are opaque and belong to the
// thread's current device.

#include <cstdint>
#include <string>

#include "kernels/cuda_comm.h"
#include "kernels/cuda_families.h"

namespace imhotep::kernels {

struct CudaDevice {
  char name[256] = "";
  std::int64_t memory_bytes = 0, free_bytes = 0, l2_bytes = 0;
  int compute_major = 0, compute_minor = 0, multiprocessors = 0;
  int memory_clock_khz = 0, memory_bus_bits = 0, clock_khz = 0;
};

struct CudaVersions {  // as the libraries report them; 0: absent
  int driver = 0, runtime = 0, cublas = 0, cudnn = 0;
};

struct CudaApi {
  int version = 0;  // kCudaApiVersion

  int (*device_count)() = nullptr;  // 0 without a device; why: versions().driver
  CudaDevice (*device)(int index) = nullptr;
  CudaVersions (*versions)() = nullptr;
  void (*use_device)(int index) = nullptr;

  void* (*allocate)(std::int64_t bytes) = nullptr;  // Throws: Failed, naming bytes and free bytes
  void (*release)(void* device) = nullptr;
  void* (*allocate_host)(std::int64_t bytes) = nullptr;  // page-locked
  void (*release_host)(void* host) = nullptr;
  void (*copy_in)(void* device, const void* host, std::int64_t bytes, void* stream) = nullptr;
  void (*copy_out)(void* host, const void* device, std::int64_t bytes, void* stream) = nullptr;
  void (*copy)(void* to, const void* from, std::int64_t bytes, void* stream) = nullptr;
  void (*set)(void* device, int byte, std::int64_t bytes, void* stream) = nullptr;

  void* (*make_stream)(bool urgent) = nullptr;
  void (*release_stream)(void* stream) = nullptr;
  void (*wait)(void* stream) = nullptr;  // until its work is done; throws what failed in it
  void* (*make_event)() = nullptr;
  void (*release_event)(void* event) = nullptr;
  void (*record)(void* event, void* stream) = nullptr;
  // While the stream is captured: every launch of the graph records the event anew.
  void (*record_in_graph)(void* event, void* stream) = nullptr;
  void (*wait_event)(void* stream, void* event) = nullptr;  // Async
  double (*elapsed_us)(void* start, void* end) = nullptr;   // waits for `end`
  void (*begin_capture)(void* stream) = nullptr;
  void* (*end_capture)(void* stream) = nullptr;               // a graph, ready to launch
  void (*launch_graph)(void* graph, void* stream) = nullptr;  // Async
  void (*release_graph)(void* graph) = nullptr;

  void* (*make_context)() = nullptr;  // cuBLASLt, cuDNN, chosen algorithms; for one thread
  void (*release_context)(void* context) = nullptr;
  void (*range_push)(const char* name) = nullptr;  // NVTX
  void (*range_pop)() = nullptr;

  CudaFamilies families;
  CudaComm comm;
};
inline constexpr int kCudaApiVersion = 3;

// The library's table. Throws: Error(Missing) that says what was looked for and what to do.
[[nodiscard]] const CudaApi& cuda_api();
// nullptr where it cannot be loaded; `why` then says the reason in a sentence.
[[nodiscard]] const CudaApi* find_cuda_api(std::string* why = nullptr);

}  // namespace imhotep::kernels
