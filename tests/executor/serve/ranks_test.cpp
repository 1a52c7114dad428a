// `imhotep serve` as its users start it, on four ranks: answers, ends, and dies.

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/base/json_document.h"
#include "tests/executor/scratch_folder.h"
#include "tests/executor/serve/live_server.h"

namespace imhotep::test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

Plan four_ranks() {
  Plan plan = speaking_plan("nano-pr-moe-2-8", 8);
  plan.cluster = "local";
  plan.world = 4;
  plan.tensor = 2;
  plan.data = 2;
  plan.ranks_per_node = 4;
  for (MoeLayerPlan& moe : plan.moe_layers) {
    moe.expert = 2;
    moe.slicing = 2;
    moe.replica = 1;
  }
  REQUIRE(check_degrees(plan).feasible);
  return plan;
}

class Server {
 public:
  explicit Server(const std::string& folder) : port_file_(folder + "/port") {
    fs::remove(port_file_);
    const std::string plan = folder + "/plan.json", log = folder + "/log";
    write_plan(four_ranks(), plan);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::setpgid(0, 0);
      REQUIRE(std::freopen(log.c_str(), "w", stderr) != nullptr);
      ::execl(IMHOTEP_BUILT_PROGRAM, "imhotep", "serve", "nano-pr-moe-2-8", "--random-weights",
              "--plan", plan.c_str(), "--port", "0", "--port-file", port_file_.c_str(), nullptr);
      ::_exit(127);
    }
    log_ = log;
    for (int tries = 0; tries < 3000 && !fs::exists(port_file_); ++tries) {
      ::usleep(10000);
      if (::waitpid(pid_, nullptr, WNOHANG) == pid_) throw std::runtime_error(read_text_file(log_));
    }
  }
  ~Server() {
    if (pid_ > 0) ::kill(-pid_, SIGKILL);
  }
  [[nodiscard]] int port() const { return std::stoi(read_text_file(port_file_)); }
  [[nodiscard]] std::string log() const { return read_text_file(log_); }
  void signal(int number) const { ::kill(pid_, number); }
  int wait() {
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  // The process that is this rank.
  [[nodiscard]] pid_t rank(int number) const {
    const std::string mark = fmt::format("OMPI_COMM_WORLD_RANK={}", number);
    for (const auto& entry : fs::directory_iterator("/proc")) {
      const std::string name = entry.path().filename().string();
      if (name.find_first_not_of("0123456789") != std::string::npos) continue;
      std::ifstream words(entry.path() / "cmdline"), environment(entry.path() / "environ");
      const std::string line(std::istreambuf_iterator<char>(words), {});
      if (line.find(port_file_) == std::string::npos) continue;
      for (std::string one; std::getline(environment, one, '\0');) {
        if (one == mark) return std::stoi(name);
      }
    }
    throw std::runtime_error("no such rank");
  }

 private:
  std::string port_file_, log_;
  pid_t pid_ = -1;
};

std::string text_of(int port) {
  const std::string body = R"({"prompt": "rank", "max_tokens": 9, "temperature": 0})";
  return Json::parse(body_of(ask(port, http_post("/v1/completions", body))))["choices"][0]["text"];
}

}  // namespace

TEST_CASE("four ranks answer, and after SIGTERM they end with 0 when all is said") {
  const executor::ScratchFolder folder;
  Server server(folder.path());
  const int port = server.port();
  const std::string text = text_of(port);
  CHECK(text_of(port) == text);
  Line line(port);
  line.send(http_post("/v1/completions",
                      R"({"prompt": "a", "max_tokens": 31, "stream": true, "temperature": 0})"));
  CHECK(line.read_until("data: ").ends_with("data: "));
  server.signal(SIGTERM);
  CHECK(line.read_until("data: [DONE]\n\n").ends_with("data: [DONE]\n\n"));
  CHECK(server.wait() == 0);
  CHECK(server.log().find("goodbye") != std::string::npos);
}

TEST_CASE("when a rank dies the server ends, says which, and can be started again") {
  const executor::ScratchFolder folder;
  std::string text;
  {
    Server server(folder.path());
    text = text_of(server.port());
    ::kill(server.rank(2), SIGKILL);
    CHECK(server.wait() != 0);
    CHECK(server.log().find("rank 2") != std::string::npos);
  }
  Server again(folder.path());
  CHECK(text_of(again.port()) == text);
  again.signal(SIGTERM);
  CHECK(again.wait() == 0);
}

}  // namespace imhotep::test
