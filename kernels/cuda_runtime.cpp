// Devices, memory, streams, events and graphs behind the table of cuda_api.h, and the table itself.

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>

#include <cstring>
#include <string>

#include "core/base/error.h"
#include "kernels/cuda_api.h"
#include "kernels/cuda_check.h"
#include "kernels/cuda_context.h"
#include "kernels/cuda_register.h"
#include "kernels/peer_cuda.h"

namespace imhotep::kernels::cuda {
namespace {

cudaStream_t stream_at(void* stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t event_at(void* event) { return static_cast<cudaEvent_t>(event); }

int device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();  // forget it: no driver or no device is an answer
    return 0;
  }
  return count;
}

int attribute(cudaDeviceAttr which, int index) {
  int value = 0;
  IMHOTEP_CUDA(cudaDeviceGetAttribute(&value, which, index));
  return value;
}

CudaDevice device(int index) {
  cudaDeviceProp properties;
  IMHOTEP_CUDA(cudaGetDeviceProperties(&properties, index));
  int current = 0;
  IMHOTEP_CUDA(cudaGetDevice(&current));
  IMHOTEP_CUDA(cudaSetDevice(index));
  std::size_t free = 0, total = 0;
  IMHOTEP_CUDA(cudaMemGetInfo(&free, &total));
  IMHOTEP_CUDA(cudaSetDevice(current));
  CudaDevice answer{.memory_bytes = static_cast<std::int64_t>(total),
                    .free_bytes = static_cast<std::int64_t>(free),
                    .l2_bytes = properties.l2CacheSize,
                    .compute_major = properties.major,
                    .compute_minor = properties.minor,
                    .multiprocessors = properties.multiProcessorCount,
                    .memory_clock_khz = attribute(cudaDevAttrMemoryClockRate, index),
                    .memory_bus_bits = attribute(cudaDevAttrGlobalMemoryBusWidth, index),
                    .clock_khz = attribute(cudaDevAttrClockRate, index)};
  std::memcpy(answer.name, properties.name, sizeof answer.name);
  return answer;
}

void use_device(int index) { IMHOTEP_CUDA(cudaSetDevice(index)); }

void* allocate(std::int64_t bytes) {
  if (bytes == 0) return nullptr;
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, static_cast<std::size_t>(bytes));
  if (status == cudaSuccess) return memory;
  cudaGetLastError();
  std::size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  raise(ErrorKind::Failed, "cannot allocate " + std::to_string(bytes) +
                               " bytes of device memory: " + std::to_string(free) + " of " +
                               std::to_string(total) + " are free (" + cudaGetErrorString(status) +
                               ")");
}
void release(void* memory) { cudaFree(memory); }

void* allocate_host(std::int64_t bytes) {
  void* memory = nullptr;
  if (bytes > 0) IMHOTEP_CUDA(cudaMallocHost(&memory, static_cast<std::size_t>(bytes)));
  return memory;
}
void release_host(void* memory) { cudaFreeHost(memory); }

void copy_any(void* to, const void* from, std::int64_t bytes, cudaMemcpyKind kind, void* stream) {
  if (bytes == 0) return;
  IMHOTEP_CUDA(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), kind, stream_at(stream)));
}
void copy_in(void* to, const void* from, std::int64_t bytes, void* stream) {
  copy_any(to, from, bytes, cudaMemcpyHostToDevice, stream);
}
void copy_out(void* to, const void* from, std::int64_t bytes, void* stream) {
  copy_any(to, from, bytes, cudaMemcpyDeviceToHost, stream);
}
void copy(void* to, const void* from, std::int64_t bytes, void* stream) {
  copy_any(to, from, bytes, cudaMemcpyDeviceToDevice, stream);
}
void set(void* to, int byte, std::int64_t bytes, void* stream) {
  if (bytes == 0) return;
  IMHOTEP_CUDA(cudaMemsetAsync(to, byte, static_cast<std::size_t>(bytes), stream_at(stream)));
}

void* make_stream(bool urgent) {
  int least = 0, greatest = 0;
  IMHOTEP_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  cudaStream_t stream = nullptr;
  IMHOTEP_CUDA(
      cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, urgent ? greatest : least));
  return stream;
}
void release_stream(void* stream) { cudaStreamDestroy(stream_at(stream)); }
void wait(void* stream) { IMHOTEP_CUDA(cudaStreamSynchronize(stream_at(stream))); }

void* make_event() {
  cudaEvent_t event = nullptr;
  IMHOTEP_CUDA(cudaEventCreate(&event));
  return event;
}
void release_event(void* event) { cudaEventDestroy(event_at(event)); }
void record(void* event, void* stream) {
  IMHOTEP_CUDA(cudaEventRecord(event_at(event), stream_at(stream)));
}
void record_in_graph(void* event, void* stream) {
  IMHOTEP_CUDA(
      cudaEventRecordWithFlags(event_at(event), stream_at(stream), cudaEventRecordExternal));
}
void wait_event(void* stream, void* event) {
  IMHOTEP_CUDA(cudaStreamWaitEvent(stream_at(stream), event_at(event)));
}
double elapsed_us(void* start, void* end) {
  float milliseconds = 0;
  IMHOTEP_CUDA(cudaEventSynchronize(event_at(end)));
  IMHOTEP_CUDA(cudaEventElapsedTime(&milliseconds, event_at(start), event_at(end)));
  return static_cast<double>(milliseconds) * 1000;
}

void begin_capture(void* stream) {
  IMHOTEP_CUDA(cudaStreamBeginCapture(stream_at(stream), cudaStreamCaptureModeThreadLocal));
}
void* end_capture(void* stream) {
  cudaGraph_t graph = nullptr;
  IMHOTEP_CUDA(cudaStreamEndCapture(stream_at(stream), &graph));
  cudaGraphExec_t ready = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&ready, graph, 0);
  cudaGraphDestroy(graph);
  IMHOTEP_CUDA(status);
  return ready;
}
void launch_graph(void* graph, void* stream) {
  IMHOTEP_CUDA(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), stream_at(stream)));
}
void release_graph(void* graph) { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)); }

void* make_context() {
  auto context = std::make_unique<Context>();
  IMHOTEP_CUDA(cudaGetDevice(&context->device));
  context->multiprocessors = attribute(cudaDevAttrMultiProcessorCount, context->device);
  context->compute_major = attribute(cudaDevAttrComputeCapabilityMajor, context->device);
  context->compute_minor = attribute(cudaDevAttrComputeCapabilityMinor, context->device);
  context->l2_bytes = attribute(cudaDevAttrL2CacheSize, context->device);
  return context.release();
}
void release_context(void* context) { delete static_cast<Context*>(context); }

CudaVersions versions() {
  CudaVersions v;
  cudaDriverGetVersion(&v.driver);
  cudaRuntimeGetVersion(&v.runtime);
  v.cublas = static_cast<int>(cublasLtGetVersion());
  v.cudnn = cudnn_version();
  return v;
}

void range_push(const char* name) { nvtxRangePushA(name); }
void range_pop() { nvtxRangePop(); }

CudaApi make_api() {
  CudaApi api{.version = kCudaApiVersion,
              .device_count = device_count,
              .device = device,
              .versions = versions,
              .use_device = use_device,
              .allocate = allocate,
              .release = release,
              .allocate_host = allocate_host,
              .release_host = release_host,
              .copy_in = copy_in,
              .copy_out = copy_out,
              .copy = copy,
              .set = set,
              .make_stream = make_stream,
              .release_stream = release_stream,
              .wait = wait,
              .make_event = make_event,
              .release_event = release_event,
              .record = record,
              .record_in_graph = record_in_graph,
              .wait_event = wait_event,
              .elapsed_us = elapsed_us,
              .begin_capture = begin_capture,
              .end_capture = end_capture,
              .launch_graph = launch_graph,
              .release_graph = release_graph,
              .make_context = make_context,
              .release_context = release_context,
              .range_push = range_push,
              .range_pop = range_pop};
  add_dense(api.families);
  add_attention(api.families);
  add_routing(api.families);
  add_experts(api.families);
  add_decode(api.families);
  add_comm(api.comm);
  return api;
}

}  // namespace
}  // namespace imhotep::kernels::cuda

extern "C" __attribute__((visibility("default"))) const imhotep::kernels::CudaApi*
imhotep_cuda_api() {
  static const imhotep::kernels::CudaApi api = imhotep::kernels::cuda::make_api();
  return &api;
}
