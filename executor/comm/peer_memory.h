#pragma once
// Device memory of a group's members that all of them can address: allocations are exported by
// cudaIpc, the handles travel over the host's communicator, and every member maps the others'.
// Works between processes of one machine whose devices see each other.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "executor/comm/communicator.h"

namespace imhotep::executor {

class PeerMemory {
 public:
  // Collective over the members of `host`, which outlives the object.
  // A zeroed block of at least that many bytes at every member:
  PeerMemory(Communicator& host, std::int64_t bytes);
  // Memory that is there already. `base`: what an allocation returned; it must outlive the object.
  PeerMemory(Communicator& host, void* base);
  // Collective too: nobody frees what another one still maps. While an exception unwinds it waits
  // for nobody and frees nothing.
  ~PeerMemory();
  PeerMemory(const PeerMemory&) = delete;
  PeerMemory& operator=(const PeerMemory&) = delete;

  // Whether every member sees the memory of every other one; the same answer at all of them.
  [[nodiscard]] bool complete() const { return complete_; }
  [[nodiscard]] std::byte* of(int member) const { return bases_[member]; }

 private:
  void share(void* base);

  Communicator& host_;
  void* owned_ = nullptr;
  std::vector<std::byte*> bases_;  // by member; null where there is no path
  bool complete_ = false;
  int exceptions_ = 0;
};

}  // namespace imhotep::executor
