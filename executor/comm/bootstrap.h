#pragma once
// The one seam to the launcher: who am I, how many are we, and how do we talk before anything is
// built. Started by mpirun or srun it starts MPI; started with RANK, WORLD_SIZE, MASTER_ADDR and
// MASTER_PORT in the environment, as torchrun does, it connects the ranks by TCP; started alone it
// is a world of one and MPI is never touched, so planning works where MPI cannot run.
//
// Ranks of a machine watch each other (watchdog.h): when one dies or is stopped, the others end
// within seconds, with one message and exit code 1.
//
// When a run must end, the first rank to say why is the one that is heard: ranks of a node share
// a flag, whoever raises it prints its message, the others stay silent until they are ended.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "executor/comm/communicator.h"

namespace imhotep::executor {

class RankLink;

class Bootstrap {
 public:
  // At most one at a time, on the main thread. Throws: Failed when MPI does not start or a peer
  // cannot be reached; Input when MASTER_PORT is taken or the ranks' variables do not fit together.
  Bootstrap();
  // Ends together with all other ranks; communicators must be gone by then. While an exception
  // unwinds it does not wait for the others: catch errors before, and call abort().
  ~Bootstrap();
  Bootstrap(const Bootstrap&) = delete;
  Bootstrap& operator=(const Bootstrap&) = delete;

  // Whether a launcher started this process as one rank of several.
  [[nodiscard]] static bool launched();

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int world() const { return world_; }
  [[nodiscard]] int nodes() const { return nodes_; }
  // "Open MPI 4.1.4, 8 ranks on 1 node, started by mpirun"
  [[nodiscard]] std::string describe() const;

  // Collective: every rank calls them in the same order.
  void barrier() const;
  void broadcast(void* data, std::int64_t bytes, int root = 0) const;
  void broadcast(std::string& text, int root = 0) const;
  // At rank 0 one text a rank, elsewhere nothing.
  [[nodiscard]] std::vector<std::string> gather(const std::string& text) const;
  [[nodiscard]] bool all_true(bool value) const;
  [[nodiscard]] double largest(double value) const;

  // Where this rank is, for the message when somebody is missed. `waits`: in a communication.
  void at(int layer, std::string_view operation, bool waits) const;

  // Ends all ranks with this exit code. Any rank may call it at any time, alone.
  [[noreturn]] void abort(int code, const std::string& message) const;

  // The communicator of a group; `tag` tells groups apart that are made at one time.
  [[nodiscard]] std::unique_ptr<Communicator> make_group(const Members& members, int tag) const;

 private:
  struct Watch;
  void watch(double patience_s);

  std::unique_ptr<RankLink> link_;  // null in a world of one
  std::unique_ptr<Watch> watch_;    // with link_
  int rank_ = 0, world_ = 1, nodes_ = 1;
  int exceptions_ = 0;
};

}  // namespace imhotep::executor
