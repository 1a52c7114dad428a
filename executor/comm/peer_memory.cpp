#include "executor/comm/peer_memory.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <exception>

#include "kernels/cuda_api.h"

namespace imhotep::executor {
namespace {

// Small allocations share pages with others, which would be mapped along.
constexpr std::int64_t kPage = 2 << 20;

struct Offer {
  kernels::PeerHandle handle;
  std::array<char, 128> machine = {};
};

std::array<char, 128> machine_name() {
  std::array<char, 128> name = {};
  gethostname(name.data(), name.size() - 1);
  return name;
}

}  // namespace

PeerMemory::PeerMemory(Communicator& host, std::int64_t bytes)
    : host_(host), exceptions_(std::uncaught_exceptions()) {
  const kernels::CudaApi& api = kernels::cuda_api();
  const std::int64_t whole = (bytes + kPage - 1) / kPage * kPage;
  owned_ = api.allocate(whole);
  api.set(owned_, 0, whole, nullptr);
  api.wait(nullptr);
  share(owned_);
}

PeerMemory::PeerMemory(Communicator& host, void* base)
    : host_(host), exceptions_(std::uncaught_exceptions()) {
  share(base);
}

void PeerMemory::share(void* base) {
  const kernels::CudaComm& comm = kernels::cuda_api().comm;
  const auto members = static_cast<std::size_t>(host_.size());
  std::vector<Offer> offers(members);
  const Offer own{.handle = comm.export_memory(base), .machine = machine_name()};
  host_.all_gather(&own, offers.data(), sizeof own);
  bases_.resize(members);
  std::uint8_t sees_all = 1;
  for (std::size_t m = 0; m < members; ++m) {
    if (static_cast<int>(m) == host_.rank()) {
      bases_[m] = static_cast<std::byte*>(base);
    } else if (offers[m].machine == own.machine) {
      bases_[m] = static_cast<std::byte*>(comm.import_memory(offers[m].handle));
    }
    if (bases_[m] == nullptr) sees_all = 0;
  }
  std::vector<std::uint8_t> all(members);
  host_.all_gather(&sees_all, all.data(), 1);
  complete_ = std::all_of(all.begin(), all.end(), [](std::uint8_t one) { return one == 1; });
}

PeerMemory::~PeerMemory() {
  if (std::uncaught_exceptions() > exceptions_) return;
  const kernels::CudaApi& api = kernels::cuda_api();
  for (std::size_t m = 0; m < bases_.size(); ++m) {
    if (static_cast<int>(m) == host_.rank() || bases_[m] == nullptr) continue;
    api.comm.forget_memory(bases_[m]);
  }
  try {
    host_.barrier();
  } catch (...) {
    return;  // a rank is gone: the process ends, and the driver frees its memory
  }
  if (owned_ != nullptr) api.release(owned_);
}

}  // namespace imhotep::executor
