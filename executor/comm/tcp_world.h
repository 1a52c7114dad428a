#pragma once
// Ranks that were started without MPI, by torchrun or by hand: RANK, WORLD_SIZE, MASTER_ADDR and
// MASTER_PORT in the environment. Rank 0 listens at the port, all others come and say where they
// listen themselves; then every pair of ranks has one connection. Messages of a pair keep their
// order; each names its group and its length, so ranks that are out of step are told so.
//
// torchrun keeps MASTER_PORT for itself (TORCHELASTIC_USE_AGENT_STORE=True); then it is the next
// one.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "executor/comm/communicator.h"

namespace imhotep::executor {

struct TcpPlace {
  int rank = 0, world = 1;
  std::string master;
  int port = 0;
  double patience_s = 60;  // for peers that are not there yet; IMHOTEP_CONNECT_SECONDS
};
// Whether all four variables are set.
[[nodiscard]] bool tcp_launched();
// Throws: Input, naming variable and value.
[[nodiscard]] TcpPlace tcp_place();

class TcpWorld {
 public:
  // Collective. Throws: Input when the port is taken, when ranks do not fit together (number of
  // ranks, one rank twice); Failed when a peer cannot be reached within the patience, naming it.
  explicit TcpWorld(const TcpPlace& place);
  ~TcpWorld();
  TcpWorld(const TcpWorld&) = delete;
  TcpWorld& operator=(const TcpWorld&) = delete;

  [[nodiscard]] const TcpPlace& place() const { return place_; }
  // Ranks of each machine, by its lowest rank.
  [[nodiscard]] int nodes() const;
  [[nodiscard]] std::vector<int> node_ranks() const;  // of this machine, ascending
  // The same at all ranks, and new for every start.
  [[nodiscard]] const std::string& token() const { return token_; }

  struct Flow {
    int peer = 0;  // rank in the world
    char* base = nullptr;
    std::span<const Piece> pieces;
  };
  // Sends and receives all of them at once; returns when all are done. A message may be shorter
  // than its pieces. Throws: Failed, with `what` and the peer, when one has gone or sends something
  // else. When a peer ends the run, this process ends with its exit code.
  void move(std::uint32_t group, const std::function<std::string()>& what,
            std::span<const Flow> sends, std::span<const Flow> receives);

  // Tells all peers to end with this code, as well as can be.
  void tell_end(int code) const;

 private:
  struct Peer {
    int socket = -1;
    std::string address, host;
    int port = 0;
  };
  void meet_at_master();
  void come_to_master();
  void accept_higher(int listener);
  void add_peer(int rank, int socket);
  void listen_for_end() const;

  TcpPlace place_;
  std::string token_;
  std::vector<Peer> peers_;
};

// A group over connections of the world, which outlives it.
[[nodiscard]] std::unique_ptr<Communicator> make_tcp_communicator(TcpWorld& world,
                                                                  const Members& members);

}  // namespace imhotep::executor
