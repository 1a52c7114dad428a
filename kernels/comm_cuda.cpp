// NCCL behind the table, and memory shared between processes. NCCL is loaded when the first
// communicator is made, so that one GPU never needs it.

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <nccl.h>

#include <cstring>
#include <string>

#include "core/base/error.h"
#include "kernels/cuda_check.h"
#include "kernels/peer_cuda.h"

namespace imhotep::kernels::cuda {
namespace {

constexpr const char* kNcclLibrary = "libnccl.so.2";
constexpr int kOldestNccl = 21800;  // 2.18: what follows in graphs on these devices

struct Nccl {
  int version = 0;
  std::string why, file;
  decltype(&ncclGetErrorString) error_string = nullptr;
  decltype(&ncclGetLastError) last_error = nullptr;
  decltype(&ncclGetUniqueId) unique_id = nullptr;
  decltype(&ncclCommInitRank) init_rank = nullptr;
  decltype(&ncclCommAbort) abort = nullptr;
  decltype(&ncclAllReduce) all_reduce = nullptr;
  decltype(&ncclReduceScatter) reduce_scatter = nullptr;
  decltype(&ncclAllGather) all_gather = nullptr;
  decltype(&ncclGroupStart) group_start = nullptr;
  decltype(&ncclGroupEnd) group_end = nullptr;
  decltype(&ncclSend) send = nullptr;
  decltype(&ncclRecv) recv = nullptr;
};

std::string version_text(int version) {
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

template <class Function>
void find(void* library, const char* name, Function& function, std::string& why) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr && why.empty()) why = std::string(kNcclLibrary) + " has no " + name;
}

Nccl load() {
  Nccl nccl;
  void* library = dlopen(kNcclLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    nccl.why = dlerror();
    return nccl;
  }
  decltype(&ncclGetVersion) get_version = nullptr;
  find(library, "ncclGetVersion", get_version, nccl.why);
  find(library, "ncclGetErrorString", nccl.error_string, nccl.why);
  find(library, "ncclGetLastError", nccl.last_error, nccl.why);
  find(library, "ncclGetUniqueId", nccl.unique_id, nccl.why);
  find(library, "ncclCommInitRank", nccl.init_rank, nccl.why);
  find(library, "ncclCommAbort", nccl.abort, nccl.why);
  find(library, "ncclAllReduce", nccl.all_reduce, nccl.why);
  find(library, "ncclReduceScatter", nccl.reduce_scatter, nccl.why);
  find(library, "ncclAllGather", nccl.all_gather, nccl.why);
  find(library, "ncclGroupStart", nccl.group_start, nccl.why);
  find(library, "ncclGroupEnd", nccl.group_end, nccl.why);
  find(library, "ncclSend", nccl.send, nccl.why);
  find(library, "ncclRecv", nccl.recv, nccl.why);
  if (get_version != nullptr) get_version(&nccl.version);
  Dl_info where{};
  if (get_version != nullptr && dladdr(reinterpret_cast<void*>(get_version), &where) != 0 &&
      where.dli_fname != nullptr) {
    nccl.file = where.dli_fname;
  }
  return nccl;
}

const Nccl& loaded() {
  static const Nccl once = load();
  return once;
}

const Nccl& nccl() {
  const Nccl& found = loaded();
  const std::string built = version_text(NCCL_VERSION_CODE);
  if (!found.why.empty()) {
    raise(ErrorKind::Missing, "several GPUs need NCCL (built with " + built + "): " + found.why +
                                  "; install it or add its folder to LD_LIBRARY_PATH");
  }
  if (found.version < kOldestNccl) {
    raise(ErrorKind::Missing, "NCCL " + version_text(found.version) + " was loaded from " +
                                  found.file + ", but several GPUs need " +
                                  version_text(kOldestNccl) + " or newer (built with " + built +
                                  "): put the folder of a newer one first in LD_LIBRARY_PATH");
  }
  return found;
}

void check(ncclResult_t status, const char* call) {
  if (status == ncclSuccess) return;
  const char* more = loaded().last_error(nullptr);
  raise(ErrorKind::Failed,
        std::string(call) + ": " + loaded().error_string(status) +
            (more != nullptr && *more != '\0' ? std::string(" (") + more + ")" : std::string()));
}

ncclDataType_t type_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::F32:
      return ncclFloat32;
    case Dtype::F64:
      return ncclFloat64;
    case Dtype::Bf16:
      return ncclBfloat16;
    case Dtype::I32:
      return ncclInt32;
  }
  raise(ErrorKind::Failed, "NCCL: unknown element type");
}

ncclComm_t comm_at(void* communicator) { return static_cast<ncclComm_t>(communicator); }
cudaStream_t stream_at(void* stream) { return static_cast<cudaStream_t>(stream); }
std::size_t size_of(std::int64_t count) { return static_cast<std::size_t>(count); }

int nccl_version() { return nccl().version; }

void nccl_id(void* id) {
  ncclUniqueId unique;
  check(nccl().unique_id(&unique), "ncclGetUniqueId");
  std::memcpy(id, &unique, sizeof unique);
}

void* nccl_join(const void* id, int ranks, int rank) {
  ncclUniqueId unique;
  std::memcpy(&unique, id, sizeof unique);
  ncclComm_t communicator = nullptr;
  check(nccl().init_rank(&communicator, ranks, unique, rank), "ncclCommInitRank");
  return communicator;
}

// Abort rather than destroy: it frees the same without waiting for the other ranks, and every
// stream has been waited for by then.
void nccl_leave(void* communicator) { loaded().abort(comm_at(communicator)); }

void nccl_all_reduce(void* communicator, void* data, std::int64_t elements, Dtype dtype,
                     void* stream) {
  check(nccl().all_reduce(data, data, size_of(elements), type_of(dtype), ncclSum,
                          comm_at(communicator), stream_at(stream)),
        "ncclAllReduce");
}

void nccl_reduce_scatter(void* communicator, const void* in, void* out, std::int64_t elements,
                         Dtype dtype, void* stream) {
  check(nccl().reduce_scatter(in, out, size_of(elements), type_of(dtype), ncclSum,
                              comm_at(communicator), stream_at(stream)),
        "ncclReduceScatter");
}

void nccl_all_gather(void* communicator, const void* in, void* out, std::int64_t bytes,
                     void* stream) {
  check(nccl().all_gather(in, out, size_of(bytes), ncclInt8, comm_at(communicator),
                          stream_at(stream)),
        "ncclAllGather");
}

void nccl_begin() { check(nccl().group_start(), "ncclGroupStart"); }
void nccl_end() { check(nccl().group_end(), "ncclGroupEnd"); }

void nccl_send(void* communicator, const void* data, std::int64_t bytes, int peer, void* stream) {
  check(nccl().send(data, size_of(bytes), ncclInt8, peer, comm_at(communicator), stream_at(stream)),
        "ncclSend");
}

void nccl_receive(void* communicator, void* data, std::int64_t bytes, int peer, void* stream) {
  check(nccl().recv(data, size_of(bytes), ncclInt8, peer, comm_at(communicator), stream_at(stream)),
        "ncclRecv");
}

PeerHandle export_memory(void* base) {
  cudaIpcMemHandle_t handle;
  IMHOTEP_CUDA(cudaIpcGetMemHandle(&handle, base));
  PeerHandle bytes;
  static_assert(sizeof handle == sizeof bytes.bytes);
  std::memcpy(bytes.bytes, &handle, sizeof handle);
  return bytes;
}

void* import_memory(const PeerHandle& bytes) {
  cudaIpcMemHandle_t handle;
  std::memcpy(&handle, bytes.bytes, sizeof handle);
  void* memory = nullptr;
  if (cudaIpcOpenMemHandle(&memory, handle, cudaIpcMemLazyEnablePeerAccess) == cudaSuccess) {
    return memory;
  }
  cudaGetLastError();  // forget it: no path between the devices is an answer
  return nullptr;
}

void forget_memory(void* imported) { cudaIpcCloseMemHandle(imported); }

}  // namespace

void add_comm(CudaComm& comm) {
  comm = {.nccl_version = nccl_version,
          .nccl_id_bytes = NCCL_UNIQUE_ID_BYTES,
          .nccl_id = nccl_id,
          .nccl_join = nccl_join,
          .nccl_leave = nccl_leave,
          .nccl_all_reduce = nccl_all_reduce,
          .nccl_reduce_scatter = nccl_reduce_scatter,
          .nccl_all_gather = nccl_all_gather,
          .nccl_begin = nccl_begin,
          .nccl_end = nccl_end,
          .nccl_send = nccl_send,
          .nccl_receive = nccl_receive,
          .export_memory = export_memory,
          .import_memory = import_memory,
          .forget_memory = forget_memory,
          .peer_counts = peer_counts,
          .peer_rows = peer_rows,
          .peer_vector = peer_vector};
}

}  // namespace imhotep::kernels::cuda
