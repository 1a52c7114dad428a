#include "executor/comm/launch.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <sys/wait.h>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/base/error.h"
#include "executor/comm/launch_output.h"
#include "executor/comm/watchdog.h"

using namespace imhotep;
using namespace imhotep::executor;

namespace {

// Launches in a child process, so that signals and stderr are its own.
class Launched {
 public:
  Launched(int ranks, const std::string& way) {
    char name[] = "/tmp/imhotep-launch-XXXXXX";
    folder_ = ::mkdtemp(name);
    pid_ = ::fork();
    if (pid_ == 0) {
      const int file = ::open((folder_ + "/stderr").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
      ::dup2(file, STDERR_FILENO);
      const std::vector<std::string> arguments = {way, folder_};
      const int code = launch_ranks(
          ranks, arguments,
          {.executable = IMHOTEP_COMM_RANK, .environment = {}, .mpirun_arguments = {}});
      std::fflush(stderr);
      ::_exit(code);
    }
  }
  ~Launched() { std::filesystem::remove_all(folder_); }
  Launched(const Launched&) = delete;
  Launched& operator=(const Launched&) = delete;

  void signal(int number) const { ::kill(pid_, number); }
  [[nodiscard]] int wait() const {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }
  [[nodiscard]] std::string text(const std::string& file) const {
    std::ostringstream all;
    all << std::ifstream(folder_ + "/" + file).rdbuf();
    return all.str();
  }
  [[nodiscard]] std::string errors() const { return text("stderr"); }
  // Whether every rank has written `name` within a minute.
  [[nodiscard]] bool reached(const std::string& name, int ranks) const {
    for (int attempt = 0; attempt < 6000; ++attempt) {
      int seen = 0;
      for (int r = 0; r < ranks; ++r) seen += text(name + std::to_string(r)).empty() ? 0 : 1;
      if (seen == ranks) return true;
      ::usleep(10'000);
    }
    return false;
  }
  // The process of a rank, once all of them have come so far.
  [[nodiscard]] pid_t ready(int ranks, int rank) const {
    return reached("ready.", ranks) ? std::stoi(text("ready." + std::to_string(rank))) : -1;
  }

 private:
  std::string folder_;
  pid_t pid_ = -1;
};

// Whether the process is still there after two seconds; one that waits to be buried is not.
bool runs(pid_t pid) {
  for (int attempt = 0; attempt < 200; ++attempt) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    std::string number, name, state;
    if (!(file >> number >> name >> state) || state == "Z" || state == "X") return false;
    ::usleep(10'000);
  }
  return true;
}

}  // namespace

TEST_CASE("ranks start, say who they are, and their exit code comes back") {
  const Launched good(4, "describe");
  CHECK(good.wait() == 0);
  CHECK(good.errors().find("4 ranks on 1 node, started by mpirun") != std::string::npos);
  CHECK(good.errors().rfind("Open MPI ", 0) == 0);
  const Launched bad(3, "code");
  CHECK(bad.wait() == 4);
  CHECK(bad.errors() == "");
}

TEST_CASE("when one rank fails its message is all that is said, and its code the result") {
  const Launched run(4, "one-fails");
  CHECK(run.wait() == 5);
  CHECK(run.errors() == "imhotep: rank 2: no text\n");
}

TEST_CASE("when all ranks fail at once the cause is said once") {
  const Launched run(4, "all-fail");
  CHECK(run.wait() == 2);
  const std::string errors = run.errors();
  CAPTURE(errors);
  CHECK(std::count(errors.begin(), errors.end(), '\n') == 1);
  CHECK(errors.find(": the plan is damaged\n") != std::string::npos);
}

TEST_CASE("when a rank is killed all end within ten seconds and its number is said") {
  const Launched run(4, "spin");
  const pid_t victim = run.ready(4, 1);
  REQUIRE(victim > 0);
  const auto begin = std::chrono::steady_clock::now();
  ::kill(victim, SIGKILL);
  CHECK(run.wait() == 137);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  MESSAGE("all ended " << took.count() << " s after the kill");
  CHECK(took.count() < 10);
  const std::string errors = run.errors();
  CAPTURE(errors);
  CHECK(errors.rfind("imhotep: rank 1 ", 0) == 0);
  CHECK(errors.find("signal 9 (Killed)") != std::string::npos);
  CHECK(std::count(errors.begin(), errors.end(), '\n') == 1);
  for (int r = 0; r < 4; ++r) CHECK_FALSE(runs(run.ready(4, r)));
}

TEST_CASE("a rank that is killed or stopped is named with its layer, and with who waits where") {
  for (const int number : {SIGKILL, SIGSTOP}) {
    const Launched run(4, "one-works-on");
    const pid_t victim = run.ready(4, 1);
    REQUIRE(victim > 0);
    ::usleep(500'000);  // until the others wait
    const auto begin = std::chrono::steady_clock::now();
    ::kill(victim, number);
    CHECK(run.wait() == (number == SIGKILL ? 137 : 1));
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    MESSAGE("all ended " << took.count() << " s after signal " << number);
    CHECK(took.count() < 10);
    const std::string errors = run.errors();
    CAPTURE(errors);
    CHECK(std::count(errors.begin(), errors.end(), '\n') == 1);
    CHECK(errors.find(number == SIGKILL ? "rank 1 has died in layer 3, experts_up; rank "
                                        : "rank 1 has stopped answering in layer 3, experts_up; "
                                          "rank ") != std::string::npos);
    CHECK(errors.find(" waits in layer 3, combine") != std::string::npos);
    for (int r = 0; r < 4; ++r) CHECK_FALSE(runs(run.ready(4, r)));
  }
}

TEST_CASE("nobody is missed while it works, however short the others' patience") {
  ::setenv("IMHOTEP_STALL_SECONDS", "1", 1);
  const Launched run(4, "one-works");
  CHECK(run.wait() == 0);
  CHECK(run.errors() == "");
  ::unsetenv("IMHOTEP_STALL_SECONDS");
}

TEST_CASE("a patience that is no number is refused") {
  ::setenv("IMHOTEP_STALL_SECONDS", "soon", 1);
  CHECK_THROWS_AS((void)watch_patience_s(), Error);
  ::setenv("IMHOTEP_STALL_SECONDS", "2.5", 1);
  CHECK(watch_patience_s() == 2.5);
  ::unsetenv("IMHOTEP_STALL_SECONDS");
  CHECK(watch_patience_s() == 6);
}

TEST_CASE("a row of the watchdog's table gives back where its rank is") {
  WatchRow row = {};
  row.put(5, true, "dispatch");
  CHECK(place_text(row.where()) == "layer 5, dispatch");
  CHECK(row.where().waits);
  row.put(-1, false, std::string(100, 'x'));
  CHECK(place_text(row.where()) == std::string(WatchRow::kLongestName, 'x'));
  row.put(-1, false, "");
  CHECK(place_text(row.where()) == "between steps");
}

TEST_CASE("Ctrl-C lets every rank save, then ends with 130; a scheduler's signal with 143") {
  for (const int number : {SIGINT, SIGTERM}) {
    const Launched run(3, "wait");
    REQUIRE(run.ready(3, 0) > 0);
    run.signal(number);
    CHECK(run.wait() == 128 + number);
    for (int r = 0; r < 3; ++r) {
      CHECK(run.text("saved." + std::to_string(r)) == std::to_string(number));
    }
    CHECK(run.errors() == "");
  }
}

TEST_CASE("a second Ctrl-C ends ranks that do not stop") {
  const Launched run(2, "spin");
  REQUIRE(run.ready(2, 0) > 0);
  run.signal(SIGINT);
  REQUIRE(run.reached("told.", 2));  // two signals at once could become one
  run.signal(SIGINT);
  CHECK(run.wait() == 130);
}

TEST_CASE("without mpirun the missing package is named") {
  const std::string path = std::getenv("PATH");
  ::setenv("PATH", "/nonexistent", 1);
  std::string message;
  try {
    static_cast<void>(launch_ranks(2, {}));
  } catch (const Error& error) {
    message = error.what();
    CHECK(error.kind() == ErrorKind::Missing);
  }
  ::setenv("PATH", path.c_str(), 1);
  CHECK(message.find("package openmpi-bin") != std::string::npos);
}

TEST_CASE("the launch line names ranks, program and arguments") {
  const std::vector<std::string> arguments = {"train", "plan.json"};
  const auto line = launch_line(8, arguments,
                                {.executable = "/bin/imhotep",
                                 .environment = {"COLOUR=1"},
                                 .mpirun_arguments = {"--hostfile", "h"}});
  CHECK(line == std::vector<std::string>{"mpirun", "--bind-to", "none", "-n", "8", "--hostfile",
                                         "h", "-x", "COLOUR", "/bin/imhotep", "train",
                                         "plan.json"});
}

TEST_CASE("other output of mpirun passes through, byte by byte as well") {
  const std::string rule(74, '-');
  const std::string chatter =
      "[vm:19742] [[8672,0],0] ORTE_ERROR_LOG: Out of resource in file "
      "../../../orte/util/show_help.c at line 507\n";
  const std::string text = "loss 3.1\n" + chatter + rule + "\nThere are not enough slots\n" + rule +
                           "\n\rstep 1\rstep 2\n" + rule +
                           "\nmpirun noticed that process rank 3 with PID 0 on node vm exited on "
                           "signal 11 (Segmentation fault).\n" +
                           rule + "\n-- end\n[vm] a note";
  const std::string expected = "loss 3.1\n" + rule + "\nThere are not enough slots\n" + rule +
                               "\n\rstep 1\rstep 2\n-- end\n[vm] a note";
  LaunchOutput whole, single;
  std::string out = whole.feed(text);
  CHECK(out + whole.finish() == expected);
  out.clear();
  for (const char c : text) out += single.feed({&c, 1});
  CHECK(out + single.finish() == expected);
  REQUIRE(single.death().has_value());
  CHECK(single.death()->rank == 3);
  CHECK(single.death()->cause == "signal 11 (Segmentation fault)");
}
