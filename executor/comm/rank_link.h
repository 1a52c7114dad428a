#pragma once
// What Bootstrap asks of whoever connects the ranks: MPI, or sockets for ranks that were started
// without it. Collective unless said otherwise. Internal to executor/comm.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "executor/comm/communicator.h"

namespace imhotep::executor {

class RankLink {
 public:
  virtual ~RankLink() = default;
  // Not collective.
  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int world() const = 0;
  [[nodiscard]] virtual int nodes() const = 0;
  [[nodiscard]] virtual const std::vector<int>& node_ranks() const = 0;  // of this machine
  [[nodiscard]] virtual std::string describe() const = 0;

  // Zeroed memory that the ranks of this machine share, until finish().
  [[nodiscard]] virtual void* share(std::int64_t bytes) = 0;
  virtual void barrier() = 0;
  virtual void broadcast(void* data, std::int64_t bytes, int root) = 0;
  // At rank 0 one text a rank, elsewhere nothing.
  [[nodiscard]] virtual std::vector<std::string> gather(const std::string& text) = 0;
  [[nodiscard]] virtual double largest(double value) = 0;
  // Collective over the members alone; `tag` tells groups apart that are made at one time.
  [[nodiscard]] virtual std::unique_ptr<Communicator> make_group(const Members& members,
                                                                 int tag) = 0;
  virtual void finish() = 0;
  // Ends all ranks, also those that wait. Any rank may call it, alone, from any thread.
  virtual void end(int code) = 0;  // does not return
};

// Started by mpirun, srun or another PMI launcher; by torchrun-style variables.
[[nodiscard]] bool mpi_launched();
[[nodiscard]] std::unique_ptr<RankLink> make_mpi_link();
[[nodiscard]] std::unique_ptr<RankLink> make_tcp_link();

}  // namespace imhotep::executor
