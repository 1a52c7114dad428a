#include "tests/cli/program.h"

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/base/fail.h"

namespace imhotep::cli {
namespace {

namespace fs = std::filesystem;

class ScratchFolder {
 public:
  ScratchFolder()
      : path_(fs::temp_directory_path() / fmt::format("imhotep-cli-tests-{}", getpid())) {
    fs::create_directories(path_);
  }
  ~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

std::string read_all(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

std::string program_path() {
  const char* chosen = std::getenv("IMHOTEP_PROGRAM");
  return chosen != nullptr ? chosen : IMHOTEP_BUILT_PROGRAM;
}

}  // namespace

std::string scratch_file(const std::string& name) {
  static const ScratchFolder folder;
  return (folder.path() / name).string();
}

std::string scratch_file(const std::string& name, const std::string& content) {
  std::string file = scratch_file(name);
  std::ofstream(file, std::ios::binary) << content;
  return file;
}

Outcome run_program(const std::string& arguments, const std::string& before,
                    const std::string& input) {
  const std::string errors = scratch_file("stderr");
  const std::string line = fmt::format("{} '{}' {} 2>'{}' <'{}'", before, program_path(), arguments,
                                       errors, scratch_file("stdin", input));
  FILE* pipe = popen(line.c_str(), "r");
  if (pipe == nullptr) fail("cannot run {}", line);
  Outcome outcome;
  std::array<char, 65536> block{};
  while (const std::size_t count = std::fread(block.data(), 1, block.size(), pipe)) {
    outcome.out.append(block.data(), count);
  }
  const int status = pclose(pipe);
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  outcome.err = read_all(errors);
  return outcome;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace imhotep::cli
