#pragma once
// Communication between GPUs, part of the table of cuda_api.h.
//
// NCCL carries what is large or goes to another machine; its library is loaded on first use.
// Inside one NVLink domain kernels store straight into the memory of their peers: a group's
// members map each other's memory (cudaIpc), and every block of a kernel meets the block of equal
// index at its peers through flags in that memory. Epochs are counted on the device, so a captured
// graph can be replayed. All of it is enqueued on the queue's stream; nothing waits on the host.
// Requires throughout: all members of a group enqueue the same calls in the same order, and the
// kernels before them on the stream are complete when they start.
// Safe to include from .cu files.

#include <cstdint>

#include "kernels/queue.h"

namespace imhotep::kernels {

inline constexpr int kMostPeers = 16;        // members of a group that kernels address
inline constexpr int kPeerBlocks = 96;       // blocks of a kernel that moves rows, at most
inline constexpr int kStageBytes = 8 << 10;  // of a member's data that one block sums or gathers

struct PeerHandle {
  char bytes[64] = {};  // cudaIpcMemHandle_t
};

struct PeerGroup {
  int size = 1, rank = 0;
  // Of each member: [kPeerBlocks, size], raised by member j in column j.
  std::uint32_t* flags[kMostPeers] = {};
  std::uint32_t* epoch = nullptr;  // own, [kPeerBlocks]
};

// What the members of an exchange know of each other's rows. `turn` counts the exchanges; its last
// bit says which half of the tables holds the present one.
struct PeerTables {
  std::int32_t* counts[kMostPeers] = {};  // of each member: [2, sources, size * local experts]
  std::int32_t* homes[kMostPeers] = {};   // of each member: [2, sources]: first row of the lane
  std::int32_t* totals = nullptr;         // own: [2, sources, destinations]
  std::uint32_t* turn = nullptr;          // own
};

struct PeerCounts {
  PeerGroup group;
  PeerTables tables;
  std::int64_t local_experts = 0;
  const std::int32_t* sent = nullptr;  // [size, local experts]
  std::int32_t* received = nullptr;    // [size, local experts]
};

enum class PeerMove : std::uint8_t {
  Dispatch,  // rows at home -> whoever computes them, source-major
  Return,    // and back to where they were sent from
  Gather,    // every lane's segment to all members, in place
};

struct PeerRows {
  PeerGroup group;
  PeerTables tables;
  PeerMove move = PeerMove::Dispatch;
  const std::int32_t* segments = nullptr;  // [lanes + 1]; null: the rows at home begin at 0
  int lane = 0;
  const void* in = nullptr;
  void* out[kMostPeers] = {};           // of each member
  std::int64_t bound[kMostPeers] = {};  // rows that each member's `out` holds
  std::int64_t in_bound = 0;            // rows that `in` holds
  std::int64_t row_bytes = 0;           // a multiple of 16
  int blocks = 1;                       // the same at all members
};

enum class PeerShare : std::uint8_t {
  Sum,      // out [elements] = sum over members of their in [elements]; out may be in
  Gather,   // out [size, elements]: everybody's in [elements]
  Scatter,  // out [elements] = sum over members of their part of in [size, elements] for this one
};

struct PeerVector {
  PeerGroup group;
  PeerShare share = PeerShare::Sum;
  void* stage[kMostPeers] = {};   // of each member: [2, size, kPeerBlocks * kStageBytes]
  std::uint32_t* turn = nullptr;  // own, [kPeerBlocks]
  const void* in = nullptr;
  void* out = nullptr;
  std::int64_t elements = 0;
  Dtype dtype = Dtype::F32;
};
// Bytes of `elements` that peer_vector takes.
inline constexpr std::int64_t kMostStaged = std::int64_t{kPeerBlocks} * kStageBytes;

struct CudaComm {
  // Throws: Missing when NCCL cannot be loaded or is too old; names what was found.
  int (*nccl_version)() = nullptr;  // as ncclGetVersion
  int nccl_id_bytes = 0;
  void (*nccl_id)(void* id) = nullptr;
  // Collective over the ranks of the communicator; on the current device.
  void* (*nccl_join)(const void* id, int ranks, int rank) = nullptr;
  void (*nccl_leave)(void* communicator) = nullptr;
  void (*nccl_all_reduce)(void* communicator, void* data, std::int64_t elements, Dtype dtype,
                          void* stream) = nullptr;
  void (*nccl_reduce_scatter)(void* communicator, const void* in, void* out, std::int64_t elements,
                              Dtype dtype, void* stream) = nullptr;
  void (*nccl_all_gather)(void* communicator, const void* in, void* out, std::int64_t bytes,
                          void* stream) = nullptr;
  void (*nccl_begin)() = nullptr;  // sends and receives up to nccl_end are one operation
  void (*nccl_end)() = nullptr;
  void (*nccl_send)(void* communicator, const void* data, std::int64_t bytes, int peer,
                    void* stream) = nullptr;
  void (*nccl_receive)(void* communicator, void* data, std::int64_t bytes, int peer,
                       void* stream) = nullptr;

  PeerHandle (*export_memory)(void* base) = nullptr;           // base of an allocation
  void* (*import_memory)(const PeerHandle& handle) = nullptr;  // null: the devices see no path
  void (*forget_memory)(void* imported) = nullptr;

  void (*peer_counts)(const Queue& queue, const PeerCounts& task) = nullptr;
  void (*peer_rows)(const Queue& queue, const PeerRows& task) = nullptr;
  void (*peer_vector)(const Queue& queue, const PeerVector& task) = nullptr;
};

}  // namespace imhotep::kernels
