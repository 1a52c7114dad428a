#include "executor/comm/launch.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "core/base/fail.h"
#include "executor/comm/bootstrap.h"
#include "executor/comm/launch_output.h"
#include "executor/comm/stop_signal.h"

namespace imhotep::executor {
namespace {

// What ranks need to run anywhere. Their single-copy mechanism asks for rights that containers
// withhold, and is no faster here (16 MiB to a peer: 940 against 980 us); ranks that wait give
// their core to ranks that work, which costs 0.1 us a message.
constexpr std::array kEnvironment = {"OMPI_ALLOW_RUN_AS_ROOT=1",
                                     "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
                                     "OMPI_MCA_rmaps_base_oversubscribe=1",
                                     "OMPI_MCA_btl_vader_single_copy_mechanism=none",
                                     "OMPI_MCA_mpi_yield_when_idle=1",
                                     "OMPI_MCA_mca_base_component_show_load_errors=0",
                                     "HWLOC_HIDE_ERRORS=2",
                                     "OMP_NUM_THREADS=1",
                                     "OPENBLAS_NUM_THREADS=1"};

std::string name_of(const std::string& assignment) {
  return assignment.substr(0, assignment.find('='));
}

std::string find_mpirun() {
  const char* path = std::getenv("PATH");
  std::string rest = path != nullptr ? path : "";
  while (!rest.empty()) {
    const std::size_t colon = rest.find(':');
    std::string file = rest.substr(0, colon) + "/mpirun";
    if (::access(file.c_str(), X_OK) == 0) return file;
    rest = colon == std::string::npos ? "" : rest.substr(colon + 1);
  }
  fail_missing("mpirun was not found: starting several ranks needs Open MPI (package openmpi-bin)");
}

std::vector<std::string> environment_of(const LaunchOptions& options) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string name = name_of(*entry);
    bool replaced = false;
    for (const std::string& wanted : options.environment) replaced |= name_of(wanted) == name;
    if (!replaced) all.emplace_back(*entry);
  }
  all.insert(all.end(), options.environment.begin(), options.environment.end());
  for (const char* ours : kEnvironment) {
    if (std::getenv(name_of(ours).c_str()) == nullptr) all.emplace_back(ours);
  }
  return all;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> list;
  for (std::string& text : texts) list.push_back(text.data());
  list.push_back(nullptr);
  return list;
}

sigset_t watched_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGCHLD}) sigaddset(&set, signal);
  return set;
}

// mpirun in a process group of its own, so that Ctrl-C reaches only us.
class Child {
 public:
  Child(std::vector<std::string> line, std::vector<std::string> environment) {
    const std::string file = find_mpirun();
    std::vector<char*> argv = pointers(line), envp = pointers(environment);
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) fail("pipe: {}", std::strerror(errno));
    const sigset_t set = watched_signals();
    sigprocmask(SIG_BLOCK, &set, &old_mask_);
    pid_ = ::fork();
    if (pid_ == 0) become(file, argv, envp, ends[1]);
    ::close(ends[1]);
    stderr_ = ends[0];
    if (pid_ < 0) fail("fork: {}", std::strerror(errno));
    signals_ = ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    ::fcntl(stderr_, F_SETFL, O_NONBLOCK);
  }
  ~Child() {
    ::close(stderr_);
    if (signals_ >= 0) ::close(signals_);
    sigprocmask(SIG_SETMASK, &old_mask_, nullptr);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  struct Asked {
    int signal = 0, times = 0;
  };
  // Returns when mpirun has ended: its status, and who asked it to.
  Asked wait(LaunchOutput& output, int& status) {
    Asked asked;
    for (bool ended = false; !ended;) {
      std::array<pollfd, 2> ready = {
          {{.fd = signals_, .events = POLLIN, .revents = 0},
           {.fd = pipe_open_ ? stderr_ : -1, .events = POLLIN, .revents = 0}}};
      ::poll(ready.data(), ready.size(), 500);
      pass_signals(asked);
      ended = ::waitpid(pid_, &status, WNOHANG) == pid_;
      pass_output(output);
    }
    return asked;
  }

 private:
  [[noreturn]] void become(const std::string& file, std::vector<char*>& argv,
                           std::vector<char*>& envp, int error_end) const {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    ::dup2(error_end, STDERR_FILENO);
    if (::isatty(STDIN_FILENO) == 1) {  // a background group may not read the terminal
      const int null = ::open("/dev/null", O_RDONLY);
      ::dup2(null, STDIN_FILENO);
    }
    sigprocmask(SIG_SETMASK, &old_mask_, nullptr);
    ::execve(file.c_str(), argv.data(), envp.data());
    ::_exit(127);
  }

  void pass_signals(Asked& asked) const {
    signalfd_siginfo info = {};
    while (::read(signals_, &info, sizeof info) == sizeof info) {
      if (info.ssi_signo == SIGCHLD) continue;
      const int signal = info.ssi_signo == SIGINT ? SIGINT : SIGTERM;
      const int first = signal == SIGINT ? SIGUSR1 : SIGUSR2;
      ::kill(pid_, asked.times == 0 ? first : SIGTERM);
      if (asked.times++ == 0) asked.signal = signal;
    }
  }

  void pass_output(LaunchOutput& output) {
    std::array<char, 4096> buffer;
    ssize_t got = 0;
    while ((got = ::read(stderr_, buffer.data(), buffer.size())) > 0) {
      const std::string text = output.feed({buffer.data(), static_cast<std::size_t>(got)});
      std::fputs(text.c_str(), stderr);
    }
    if (got == 0) pipe_open_ = false;
  }

  pid_t pid_ = -1;
  int stderr_ = -1, signals_ = -1;
  bool pipe_open_ = true;
  sigset_t old_mask_ = {};
};

}  // namespace

std::vector<std::string> launch_line(int ranks, std::span<const std::string> arguments,
                                     const LaunchOptions& options) {
  std::vector<std::string> line = {"mpirun", "--bind-to", "none", "-n", std::to_string(ranks)};
  line.insert(line.end(), options.mpirun_arguments.begin(), options.mpirun_arguments.end());
  for (const std::string& variable : options.environment) {
    line.insert(line.end(), {"-x", name_of(variable)});
  }
  line.push_back(options.executable.empty()
                     ? std::filesystem::read_symlink("/proc/self/exe").string()
                     : options.executable);
  line.insert(line.end(), arguments.begin(), arguments.end());
  return line;
}

namespace {

// Where a rank died, as the others saw it, and of what, as mpirun saw it; empty: none did.
std::string death_message(const LaunchOutput& output) {
  const std::string& missed = output.missed();
  if (!output.death()) return missed.empty() ? missed : missed + "\n";
  const LaunchOutput::Death& death = *output.death();
  const bool same = missed.starts_with(fmt::format("imhotep: rank {} ", death.rank));
  return same ? fmt::format("{} ({})\n", missed, death.cause)
              : fmt::format("imhotep: rank {} was ended by {}\n", death.rank, death.cause);
}

}  // namespace

int launch_ranks(int ranks, std::span<const std::string> arguments, const LaunchOptions& options) {
  if (ranks < 1) fail_input("ranks to start: expected at least 1, got {}", ranks);
  if (Bootstrap::launched()) fail_input("this process is already one rank of several");
  LaunchOutput output;
  int status = 0;
  Child::Asked asked;
  {
    Child child(launch_line(ranks, arguments, options), environment_of(options));
    asked = child.wait(output, status);
  }
  std::fputs(output.finish().c_str(), stderr);
  const int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  const bool failed = code >= 1 && code <= 5;  // our own errors: a rank has said which
  if (asked.times > 1 || (asked.times == 1 && code != 0 && !failed)) {
    return stop_exit_code(asked.signal);
  }
  std::fputs(death_message(output).c_str(), stderr);
  return code;
}

}  // namespace imhotep::executor
