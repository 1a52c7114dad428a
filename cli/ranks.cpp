#include "cli/ranks.h"

#include <sys/prctl.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <fstream>

#include "cli/signals.h"
#include "core/base/fail.h"
#include "core/base/json_document.h"
#include "core/spec/cluster.h"
#include "executor/comm/launch.h"
#include "executor/runtime/launch_check.h"

namespace imhotep::cli {
namespace {

std::vector<std::string> own_arguments() {
  const std::string line = read_text_file("/proc/self/cmdline");
  std::vector<std::string> words;
  for (std::size_t begin = 0; begin < line.size();) {
    const std::size_t end = std::min(line.find('\0', begin), line.size());
    words.push_back(line.substr(begin, end - begin));
    begin = end + 1;
  }
  if (!words.empty()) words.erase(words.begin());
  return words;
}

int as_rank(const std::function<int(const executor::Bootstrap&)>& work) {
  const executor::Bootstrap bootstrap;
  try {
    return work(bootstrap);
  } catch (const Error& error) {
    if (bootstrap.world() == 1) throw;
    bootstrap.abort(static_cast<int>(error.kind()), error.what());
  } catch (const std::exception& error) {
    if (bootstrap.world() == 1) throw;
    bootstrap.abort(1, fmt::format("unexpected: {}", error.what()));
  }
}

}  // namespace

int on_ranks(int world, const std::function<int(const executor::Bootstrap&)>& work) {
  if (executor::Bootstrap::launched() || world == 1) return as_rank(work);
  return executor::launch_ranks(world, own_arguments());
}

int on_ranks(const Plan& plan, const std::function<int(const executor::Bootstrap&)>& work) {
  return on_ranks(plan.world, [&](const executor::Bootstrap& bootstrap) {
    executor::check_launch(plan, bootstrap);
    return work(bootstrap);
  });
}

int run_self(int world, const std::vector<std::string>& arguments) {
  if (world > 1) return executor::launch_ranks(world, arguments);
  std::fflush(stdout);
  const pid_t child = fork();
  if (child < 0) fail("cannot start a process");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    std::vector<std::string> words = arguments;
    words.insert(words.begin(), "imhotep");
    std::vector<char*> pointers;
    for (std::string& word : words) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    execv("/proc/self/exe", pointers.data());
    _exit(1);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {  // interrupted: who asks this process to stop asks both
    if (signal_exit_code() != 0) kill(child, signal_exit_code() - 128);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int run_self_captured(const std::vector<std::string>& arguments, std::string& output) {
  std::FILE* capture = std::tmpfile();
  if (capture == nullptr) fail("cannot create a temporary file");
  std::fflush(stdout);
  const int saved = dup(STDOUT_FILENO);
  dup2(fileno(capture), STDOUT_FILENO);
  const int code = run_self(1, arguments);
  dup2(saved, STDOUT_FILENO);
  close(saved);
  std::rewind(capture);
  char block[4096];
  std::size_t count = 0;
  while ((count = std::fread(block, 1, sizeof block, capture)) > 0) output.append(block, count);
  std::fclose(capture);
  return code;
}

std::string machine_text() {
  std::string system = "Linux";
  std::ifstream stream("/etc/os-release");
  for (std::string line; std::getline(stream, line);) {
    if (line.starts_with("PRETTY_NAME=\"")) system = line.substr(13, line.size() - 14);
  }
  const ClusterSpec local = detect_local_cluster();
  return fmt::format("{}, {} cores, {}", local.device.name, local.devices(), system);
}

}  // namespace imhotep::cli
