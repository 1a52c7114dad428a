#pragma once
// A group of GPUs. Everything is enqueued on one stream, and all pointers are device memory.
// Small sums and gathers inside one NVLink domain are one kernel that stores into the peers'
// memory (kernels/cuda_comm.h); the rest is NCCL's.

#include <memory>
#include <optional>

#include "executor/comm/communicator.h"
#include "executor/comm/peer_memory.h"
#include "kernels/cuda_api.h"

namespace imhotep::executor {

class CudaCommunicator final : public Communicator {
 public:
  // Collective over the members of `host`, which outlives the object, as the stream does.
  // Throws: Missing without a usable NCCL.
  CudaCommunicator(Communicator& host, void* stream);
  ~CudaCommunicator() override;

  void all_reduce(void* data, std::int64_t elements, Dtype dtype) override;
  void reduce_scatter(const void* in, void* out, std::int64_t elements, Dtype dtype) override;
  void all_gather(const void* in, void* out, std::int64_t bytes_per_rank) override;
  void barrier() override;  // of the hosts

  [[nodiscard]] bool cuts_alike() const override { return true; }
  // Null where members do not see each other's memory.
  [[nodiscard]] const kernels::PeerGroup* peers() const { return peers_ ? &*peers_ : nullptr; }
  [[nodiscard]] Communicator& host() const { return host_; }

 protected:
  void transfer_others(std::string_view what, const void* in, void* out, const PieceLists& send,
                       const PieceLists& receive) override;
  void copy_own(const void* in, void* out, std::span<const Piece> from,
                std::span<const Piece> to) override;

 private:
  [[nodiscard]] bool staged(std::int64_t bytes) const;
  void share(kernels::PeerShare how, const void* in, void* out, std::int64_t elements, Dtype dtype);

  Communicator& host_;
  void *stream_, *nccl_ = nullptr;
  std::unique_ptr<PeerMemory> memory_;  // flags, epochs, turns, stage
  std::optional<kernels::PeerGroup> peers_;
};

}  // namespace imhotep::executor
