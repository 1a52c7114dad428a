#include "executor/comm/cuda_communicator.h"

#include <array>
#include <cstdlib>
#include <vector>

#include "core/base/fail.h"
#include "core/program/device_memory.h"

namespace imhotep::executor {
namespace {

using kernels::kMostPeers;
using kernels::kPeerBlocks;

// Predictions of memory and of times know the same limits.
static_assert(program::kMostStagedBytes == kernels::kMostStaged);
static_assert(program::kMostWindows == kMostPeers);
static_assert(program::kWindowBlocks == kPeerBlocks);

// A member's block: flags, then epochs and turns of its own, then the stage.
struct Layout {
  std::int64_t epochs = 0, turns = 0, stage = 0, bytes = 0;
  explicit Layout(int members) {
    const std::int64_t row = kPeerBlocks * std::int64_t{sizeof(std::uint32_t)};
    epochs = row * members;
    turns = epochs + row;
    bytes = program::window_bytes(members);
    stage = bytes - 2 * members * kernels::kMostStaged;
  }
};

// IMHOTEP_PEER_KERNELS=0 leaves everything to NCCL, to compare.
bool peer_kernels_wanted() {
  const char* text = std::getenv("IMHOTEP_PEER_KERNELS");
  return text == nullptr || std::string_view(text) != "0";
}

void* join_nccl(Communicator& host) {
  if (host.size() == 1) return nullptr;
  const kernels::CudaComm& comm = kernels::cuda_api().comm;
  static_cast<void>(comm.nccl_version());  // throws before anybody waits
  const std::int64_t bytes = comm.nccl_id_bytes;
  std::vector<char> id(static_cast<std::size_t>(bytes)), all(id.size() * host.size());
  if (host.rank() == 0) comm.nccl_id(id.data());
  host.all_gather(id.data(), all.data(), bytes);
  return comm.nccl_join(all.data(), host.size(), host.rank());
}

}  // namespace

CudaGroup::CudaGroup(Communicator& host) : nccl_(join_nccl(host)) {
  if (host.size() > kMostPeers || !peer_kernels_wanted()) return;
  const Layout layout(host.size());
  memory_ = std::make_unique<PeerMemory>(host, layout.bytes);
  if (!memory_->complete()) return;
  kernels::PeerGroup& group = peers_.emplace();
  group.size = host.size();
  group.rank = host.rank();
  for (int m = 0; m < group.size; ++m) {
    group.flags[m] = reinterpret_cast<std::uint32_t*>(memory_->of(m));
  }
  group.epoch = reinterpret_cast<std::uint32_t*>(memory_->of(group.rank) + layout.epochs);
}

CudaGroup::~CudaGroup() {
  if (nccl_ != nullptr) kernels::cuda_api().comm.nccl_leave(nccl_);
}

void CudaGroup::put_stage(kernels::PeerVector& task) const {
  const Layout layout(peers_->size);
  task.group = *peers_;
  for (int m = 0; m < peers_->size; ++m) task.stage[m] = memory_->of(m) + layout.stage;
  task.turn = reinterpret_cast<std::uint32_t*>(memory_->of(peers_->rank) + layout.turns);
}

CudaCommunicator::CudaCommunicator(CommunicatorPool& pool, const Members& members, void* stream)
    : Communicator(members, pool.get(members).rank()), host_(pool.get(members)), stream_(stream) {
  std::shared_ptr<void>& kept = pool.attachment(members);
  if (!kept) kept = std::make_shared<CudaGroup>(host_);
  group_ = std::static_pointer_cast<CudaGroup>(kept);
}

bool CudaCommunicator::staged(std::int64_t bytes) const {
  return peers() != nullptr && program::fits_windows(bytes, size());
}

void CudaCommunicator::share(kernels::PeerShare how, const void* in, void* out,
                             std::int64_t elements, Dtype dtype) {
  kernels::PeerVector task{
      .share = how, .in = in, .out = out, .elements = elements, .dtype = dtype};
  group_->put_stage(task);
  kernels::cuda_api().comm.peer_vector({.device = kernels::Device::Cuda, .stream = stream_}, task);
}

void CudaCommunicator::all_reduce(void* data, std::int64_t elements, Dtype dtype) {
  if (elements == 0 || size() == 1) return;
  if (staged(elements * bytes_of(dtype))) {
    return share(kernels::PeerShare::Sum, data, data, elements, dtype);
  }
  kernels::cuda_api().comm.nccl_all_reduce(group_->nccl(), data, elements, dtype, stream_);
}

void CudaCommunicator::reduce_scatter(const void* in, void* out, std::int64_t elements,
                                      Dtype dtype) {
  if (elements == 0) return;
  if (size() == 1) {
    if (in != out) kernels::cuda_api().copy(out, in, elements * bytes_of(dtype), stream_);
    return;
  }
  if (staged(elements * bytes_of(dtype))) {
    return share(kernels::PeerShare::Scatter, in, out, elements, dtype);
  }
  kernels::cuda_api().comm.nccl_reduce_scatter(group_->nccl(), in, out, elements, dtype, stream_);
}

void CudaCommunicator::all_gather(const void* in, void* out, std::int64_t bytes_per_rank) {
  if (bytes_per_rank == 0) return;
  if (size() == 1) {
    if (in != out) kernels::cuda_api().copy(out, in, bytes_per_rank, stream_);
    return;
  }
  count(size() - 1, (size() - 1) * bytes_per_rank);
  if (staged(bytes_per_rank) && bytes_per_rank % 4 == 0) {
    return share(kernels::PeerShare::Gather, in, out, bytes_per_rank / 4, Dtype::I32);
  }
  kernels::cuda_api().comm.nccl_all_gather(group_->nccl(), in, out, bytes_per_rank, stream_);
}

void CudaCommunicator::barrier() { host_.barrier(); }

void CudaCommunicator::copy_own(const void* in, void* out, std::span<const Piece> from,
                                std::span<const Piece> to) {
  for_each_piece(from, to, [&](std::int64_t source, std::int64_t target, std::int64_t bytes) {
    const char* a = static_cast<const char*>(in) + source;
    char* b = static_cast<char*>(out) + target;
    if (a != b) kernels::cuda_api().copy(b, a, bytes, stream_);
  });
}

// Pieces of a pair of members are matched in order; both sides cut them alike, because NCCL wants
// each message received as it was sent.
void CudaCommunicator::transfer_others(std::string_view, const void* in, void* out,
                                       const PieceLists& send, const PieceLists& receive) {
  const kernels::CudaComm& comm = kernels::cuda_api().comm;
  comm.nccl_begin();
  for (int m = 0; m < size(); ++m) {
    if (m == rank()) continue;
    for (const Piece& piece : send.of(m)) {
      comm.nccl_send(group_->nccl(), static_cast<const char*>(in) + piece.offset, piece.bytes, m,
                     stream_);
    }
    for (const Piece& piece : receive.of(m)) {
      comm.nccl_receive(group_->nccl(), static_cast<char*>(out) + piece.offset, piece.bytes, m,
                        stream_);
    }
  }
  comm.nccl_end();
}

}  // namespace imhotep::executor
