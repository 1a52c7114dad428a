// Ranks that start without MPI: what goes wrong at the start, and what they say then.

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "executor/comm/tcp_world.h"

using namespace imhotep;
using namespace imhotep::executor;

namespace {

using Variables = std::map<std::string, std::string>;

// A port of this machine that is taken as long as the object lives.
class TakenPort {
 public:
  explicit TakenPort(int port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_ANY);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    bound_ = ::bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  ~TakenPort() { ::close(socket_); }
  TakenPort(const TakenPort&) = delete;
  TakenPort& operator=(const TakenPort&) = delete;
  void listen() const {
    REQUIRE(bound_);
    REQUIRE(::listen(socket_, 4) == 0);
  }
  [[nodiscard]] bool bound() const { return bound_; }

 private:
  int socket_ = -1;
  bool bound_ = false;
};

// A port that is free, as is the next one. The system gives ports of 32768 and above to whoever
// asks for any, other tests among them; below they stay free until they are used here.
int free_port() {
  constexpr int kFirst = 20'000, kPorts = 12'000;
  static int asked = 0;
  for (int attempt = 0; attempt < kPorts; ++attempt) {
    const int port = kFirst + (::getpid() * 16 + 2 * asked++) % kPorts;
    if (TakenPort(port).bound() && TakenPort(port + 1).bound()) return port;
  }
  FAIL("no free port from " << kFirst << " on");
  return 0;
}

// One process a set of variables, in one folder.
class Ranks {
 public:
  Ranks(const std::vector<Variables>& all, const std::string& way) {
    char name[] = "/tmp/imhotep-tcp-XXXXXX";
    folder_ = ::mkdtemp(name);
    for (const Variables& variables : all) {
      pids_.push_back(::fork());
      if (pids_.back() != 0) continue;
      for (const auto& [key, value] : variables) ::setenv(key.c_str(), value.c_str(), 1);
      const int file = ::open((folder_ + "/stderr").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
      ::dup2(file, STDERR_FILENO);
      ::execl(IMHOTEP_COMM_RANK, IMHOTEP_COMM_RANK, way.c_str(), folder_.c_str(), nullptr);
      ::_exit(127);
    }
  }
  ~Ranks() {
    for (const pid_t pid : pids_) {
      if (pid > 0) ::kill(pid, SIGKILL);
    }
    std::filesystem::remove_all(folder_);
  }
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  [[nodiscard]] std::vector<int> wait() {
    std::vector<int> codes;
    for (pid_t& pid : pids_) {
      int status = 0;
      ::waitpid(pid, &status, 0);
      pid = -1;
      codes.push_back(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    }
    return codes;
  }
  [[nodiscard]] std::string errors() const { return text("stderr"); }
  [[nodiscard]] pid_t pid(int rank) const { return pids_[rank]; }
  // Until all ranks have come as far as to wait.
  [[nodiscard]] bool ready() const {
    for (int attempt = 0; attempt < 2000; ++attempt) {
      std::size_t seen = 0;
      for (std::size_t r = 0; r < pids_.size(); ++r) {
        seen += text("ready." + std::to_string(r)).empty() ? 0 : 1;
      }
      if (seen == pids_.size()) return true;
      ::usleep(10'000);
    }
    return false;
  }

 private:
  [[nodiscard]] std::string text(const std::string& file) const {
    std::ostringstream all;
    all << std::ifstream(folder_ + "/" + file).rdbuf();
    return all.str();
  }
  std::string folder_;
  std::vector<pid_t> pids_;
};

std::vector<Variables> world_of(int world, int port, const std::string& patience = "20") {
  std::vector<Variables> all;
  for (int r = 0; r < world; ++r) {
    all.push_back({{"RANK", std::to_string(r)},
                   {"WORLD_SIZE", std::to_string(world)},
                   {"MASTER_ADDR", "127.0.0.1"},
                   {"MASTER_PORT", std::to_string(port)},
                   {"IMHOTEP_CONNECT_SECONDS", patience}});
  }
  return all;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("ranks without MPI start, say who they are, and end with their code") {
  Ranks good(world_of(4, free_port()), "describe");
  CHECK(good.wait() == std::vector<int>(4, 0));
  CHECK(good.errors() == "TCP, 4 ranks on 1 node, started by RANK and MASTER_ADDR\n");
  Ranks lone(world_of(1, free_port()), "code");
  CHECK(lone.wait() == std::vector<int>{4});
}

TEST_CASE("under torchrun, which keeps MASTER_PORT, ranks meet at the next one") {
  const int port = free_port();
  const TakenPort agent(port);
  agent.listen();
  std::vector<Variables> all = world_of(2, port);
  for (Variables& one : all) one["TORCHELASTIC_USE_AGENT_STORE"] = "True";
  Ranks ranks(all, "describe");
  CHECK(ranks.wait() == std::vector<int>(2, 0));
  CHECK(ranks.errors() == "TCP, 2 ranks on 1 node, started by RANK and MASTER_ADDR\n");
}

TEST_CASE("a taken MASTER_PORT is named") {
  const int port = free_port();
  const TakenPort other(port);
  other.listen();
  Ranks ranks({world_of(2, port).front()}, "describe");
  CHECK(ranks.wait() == std::vector<int>{2});
  CHECK(contains(ranks.errors(), std::to_string(port) + " is taken on this machine"));
}

TEST_CASE("a peer that cannot be reached, and ranks that do not come, are named") {
  const int port = free_port();
  Ranks other({world_of(3, port, "1")[1]}, "describe");
  CHECK(other.wait() == std::vector<int>{1});
  CAPTURE(other.errors());
  CHECK(
      contains(other.errors(), "rank 0 (MASTER_ADDR, MASTER_PORT) cannot be reached at 127.0.0.1:" +
                                   std::to_string(port) + " (Connection refused)"));
  std::vector<Variables> two = world_of(4, free_port(), "1");
  two.erase(two.begin() + 2, two.end());
  Ranks first(two, "describe");
  CHECK(first.wait()[0] == 1);
  CHECK(contains(first.errors(), "for ranks 2, 3, which did not come"));
}

TEST_CASE("ranks whose variables do not fit together are refused") {
  std::vector<Variables> sizes = world_of(2, free_port());
  sizes[1]["WORLD_SIZE"] = "3";
  Ranks different(sizes, "describe");
  CHECK(different.wait()[0] == 2);
  CHECK(contains(different.errors(), "rank 1 was started with WORLD_SIZE 3, rank 0 with 2"));
  std::vector<Variables> twice = world_of(3, free_port());
  twice[2]["RANK"] = "1";
  Ranks same(twice, "describe");
  CHECK(same.wait()[0] == 2);
  CHECK(contains(same.errors(), "two processes were started as rank 1"));
  std::vector<Variables> wrong = world_of(1, free_port());
  wrong[0]["RANK"] = "one";
  Ranks unread(wrong, "describe");
  CHECK(unread.wait() == std::vector<int>{2});
  CHECK(contains(unread.errors(), "RANK: expected a number from 0 to 0, got \"one\""));
}

TEST_CASE("when one rank without MPI fails its message is all that is said") {
  Ranks run(world_of(4, free_port()), "one-fails");
  CHECK(run.wait() == std::vector<int>(4, 5));
  CHECK(run.errors() == "imhotep: rank 2: no text\n");
}

TEST_CASE("a rank without MPI that is killed or stopped is named, and all end within ten seconds") {
  for (const int number : {SIGKILL, SIGSTOP}) {
    Ranks run(world_of(4, free_port()), "one-works-on");
    REQUIRE(run.ready());
    ::usleep(500'000);  // until the others wait
    const auto begin = std::chrono::steady_clock::now();
    ::kill(run.pid(1), number);
    if (number == SIGSTOP) {  // without a launcher nobody else ends it
      for (const int rank : {0, 2, 3}) {
        int status = 0;
        CHECK(::waitpid(run.pid(rank), &status, 0) == run.pid(rank));
        CHECK(WEXITSTATUS(status) == 1);
      }
    } else {
      CHECK(run.wait() == std::vector<int>{1, 137, 1, 1});
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    MESSAGE("all ended " << took.count() << " s after signal " << number);
    CHECK(took.count() < 10);
    const std::string errors = run.errors();
    CAPTURE(errors);
    CHECK(std::count(errors.begin(), errors.end(), '\n') == 1);
    CHECK(contains(errors, number == SIGKILL ? "rank 1 has died in layer 3, experts_up; rank "
                                             : "rank 1 has stopped answering in layer 3, "
                                               "experts_up; rank "));
  }
}
