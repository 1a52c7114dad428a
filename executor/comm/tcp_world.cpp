#include "executor/comm/tcp_world.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "core/base/fail.h"
#include "executor/comm/tcp_socket.h"

namespace imhotep::executor {
namespace {

using nlohmann::json;

constexpr const char* kGreeting = "imhotep.ranks/1";

int number(const char* name, int least, int most) {
  const char* text = std::getenv(name);
  char* end = nullptr;
  const long value = text == nullptr ? -1 : std::strtol(text, &end, 10);
  if (text == nullptr || end == text || *end != '\0' || value < least || value > most) {
    fail_input("environment variable {}: expected a number from {} to {}, got \"{}\"", name, least,
               most, text == nullptr ? "" : text);
  }
  return static_cast<int>(value);
}

// What ranks of one machine have in common, and others have not.
std::string host_name() {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return boot + "/" + name;
}

std::string new_token() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}", random(), random());
}

json parsed(const std::string& text, const std::string& who) {
  json value = json::parse(text, nullptr, false);
  if (!value.is_object() || value.value("greeting", "") != kGreeting) {
    fail("{}: something else than imhotep answered", who);
  }
  return value;
}

}  // namespace

bool tcp_launched() {
  for (const char* name : {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}) {
    if (std::getenv(name) == nullptr) return false;
  }
  return true;
}

TcpPlace tcp_place() {
  TcpPlace place{.rank = 0,
                 .world = number("WORLD_SIZE", 1, 1 << 16),
                 .master = std::getenv("MASTER_ADDR"),
                 .port = number("MASTER_PORT", 1, 65535)};
  place.rank = number("RANK", 0, place.world - 1);
  const char* agent = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
  if (agent != nullptr && std::string(agent) == "True") ++place.port;
  if (std::getenv("IMHOTEP_CONNECT_SECONDS") != nullptr) {
    place.patience_s = number("IMHOTEP_CONNECT_SECONDS", 1, 86400);
  }
  return place;
}

TcpWorld::TcpWorld(const TcpPlace& place) : place_(place), peers_(place.world) {
  peers_[place.rank].host = host_name();
  if (place.world == 1) {
    token_ = new_token();
    return;
  }
  place.rank == 0 ? meet_at_master() : come_to_master();
  for (const Peer& peer : peers_) {
    if (peer.socket >= 0) prepare_for_messages(peer.socket);
  }
}

TcpWorld::~TcpWorld() {
  for (const Peer& peer : peers_) {
    if (peer.socket >= 0) ::close(peer.socket);
  }
}

void TcpWorld::add_peer(int rank, int socket) {
  if (rank < 0 || rank >= place_.world || rank == place_.rank || peers_[rank].socket >= 0) {
    fail_input("two processes were started as rank {}", rank);
  }
  peers_[rank].socket = socket;
}

// Rank 0: everybody comes, then everybody learns where the others listen.
void TcpWorld::meet_at_master() {
  const int listener = listen_at(place_.port);
  const double deadline = clock_s() + place_.patience_s;
  for (int missing = place_.world - 1; missing > 0; --missing) {
    const int socket = accept_until(listener, deadline);
    if (socket < 0) {
      std::string ranks;
      for (int r = 1; r < place_.world; ++r) {
        if (peers_[r].socket < 0) ranks += fmt::format("{}{}", ranks.empty() ? "" : ", ", r);
      }
      ::close(listener);
      fail("waited {:.0f} s at port {} for rank{} {}, which did not come", place_.patience_s,
           place_.port, missing == 1 ? "" : "s", ranks);
    }
    const std::string who = fmt::format("a process at {}", address_of_peer(socket));
    const json hello = parsed(receive_text(socket, who), who);
    const int rank = hello.value("rank", -1), world = hello.value("world", -1);
    if (world != place_.world) {
      fail_input("rank {} was started with WORLD_SIZE {}, rank 0 with {}", rank, world,
                 place_.world);
    }
    add_peer(rank, socket);
    peers_[rank].address = address_of_peer(socket);
    peers_[rank].host = hello.value("host", "");
    peers_[rank].port = hello.value("port", 0);
  }
  ::close(listener);
  token_ = new_token();
  json table = {{"greeting", kGreeting}, {"token", token_}, {"peers", json::array()}};
  for (const Peer& peer : peers_) {
    table["peers"].push_back({{"address", peer.address}, {"port", peer.port}, {"host", peer.host}});
  }
  for (int r = 1; r < place_.world; ++r) {
    send_text(peers_[r].socket, table.dump(), fmt::format("rank {}", r));
  }
}

void TcpWorld::come_to_master() {
  const double deadline = clock_s() + place_.patience_s;
  const int listener = listen_at(0);
  const auto hello = [&](int port) {
    return json{{"greeting", kGreeting},
                {"rank", place_.rank},
                {"world", place_.world},
                {"port", port},
                {"host", host_name()}}
        .dump();
  };
  const std::string master = fmt::format("rank 0 (MASTER_ADDR, MASTER_PORT)");
  const int socket = connect_until(master, place_.master, place_.port, deadline);
  add_peer(0, socket);
  send_text(socket, hello(port_of(listener)), master);
  const json table = parsed(receive_text(socket, master), master);
  token_ = table.value("token", "");
  for (int r = 0; r < place_.world; ++r) {
    const json& one = table.at("peers").at(r);
    peers_[r].address = one.value("address", "");
    peers_[r].host = one.value("host", "");
    peers_[r].port = one.value("port", 0);
  }
  for (int r = 1; r < place_.rank; ++r) {
    const std::string who = fmt::format("rank {}", r);
    const int to = connect_until(who, peers_[r].address, peers_[r].port, deadline);
    add_peer(r, to);
    send_text(to, hello(0), who);
  }
  accept_higher(listener);
  ::close(listener);
}

void TcpWorld::accept_higher(int listener) {
  const double deadline = clock_s() + place_.patience_s;
  for (int missing = place_.world - 1 - place_.rank; missing > 0; --missing) {
    const int socket = accept_until(listener, deadline);
    if (socket < 0)
      fail("{} higher ranks did not come within {:.0f} s", missing, place_.patience_s);
    const std::string who = fmt::format("a process at {}", address_of_peer(socket));
    add_peer(parsed(receive_text(socket, who), who).value("rank", -1), socket);
  }
}

int TcpWorld::nodes() const {
  std::set<std::string> hosts;
  for (const Peer& peer : peers_) hosts.insert(peer.host);
  return static_cast<int>(hosts.size());
}

std::vector<int> TcpWorld::node_ranks() const {
  std::vector<int> ranks;
  for (int r = 0; r < place_.world; ++r) {
    if (peers_[r].host == peers_[place_.rank].host) ranks.push_back(r);
  }
  return ranks;
}

}  // namespace imhotep::executor
