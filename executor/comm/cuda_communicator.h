#pragma once
// A group of GPUs. Everything is enqueued on one stream, and all pointers are device memory.
// Small sums and gathers inside one NVLink domain are one kernel that stores into the peers'
// memory (kernels/cuda_comm.h); the rest is NCCL's.

#include <memory>
#include <optional>

#include "executor/comm/communicator_pool.h"
#include "executor/comm/peer_memory.h"
#include "kernels/cuda_api.h"

namespace imhotep::executor {

// What a group keeps whichever stream it works on: NCCL's communicator, and memory that its members
// see. Making one takes a good part of a second.
class CudaGroup {
 public:
  // Collective over the members of `host`, which outlives the object.
  // Throws: Missing without a usable NCCL.
  explicit CudaGroup(Communicator& host);
  ~CudaGroup();
  CudaGroup(const CudaGroup&) = delete;
  CudaGroup& operator=(const CudaGroup&) = delete;

  [[nodiscard]] void* nccl() const { return nccl_; }  // null in a group of one
  // Null where members do not see each other's memory.
  [[nodiscard]] const kernels::PeerGroup* peers() const { return peers_ ? &*peers_ : nullptr; }
  // Where peer_vector works. Requires: peers().
  void put_stage(kernels::PeerVector& task) const;

 private:
  void* nccl_ = nullptr;
  std::unique_ptr<PeerMemory> memory_;  // flags, epochs, turns, stage
  std::optional<kernels::PeerGroup> peers_;
};

class CudaCommunicator final : public Communicator {
 public:
  // Collective over the members the first time that `pool` meets them; their group stays with the
  // pool. pool: of the hosts; it outlives the object, as the stream does.
  // Throws: Missing without a usable NCCL.
  CudaCommunicator(CommunicatorPool& pool, const Members& members, void* stream);

  void all_reduce(void* data, std::int64_t elements, Dtype dtype) override;
  void reduce_scatter(const void* in, void* out, std::int64_t elements, Dtype dtype) override;
  void all_gather(const void* in, void* out, std::int64_t bytes_per_rank) override;
  void barrier() override;  // of the hosts

  [[nodiscard]] bool cuts_alike() const override { return true; }
  [[nodiscard]] const kernels::PeerGroup* peers() const { return group_->peers(); }
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
  void* stream_;
  std::shared_ptr<CudaGroup> group_;
};

}  // namespace imhotep::executor
