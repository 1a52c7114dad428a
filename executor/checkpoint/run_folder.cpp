#include "executor/checkpoint/run_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <vector>

#include "core/base/fail.h"
#include "core/base/json_document.h"
#include "executor/checkpoint/weight_files.h"

namespace imhotep::executor {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLatest = "latest";
constexpr std::string_view kStepPrefix = "step_";

fs::path checkpoints_of(const std::string& run_folder) {
  return fs::path(run_folder) / "checkpoints";
}

bool holds_model(const fs::path& folder) { return WeightFiles::exist(folder.string(), "model"); }

// Complete checkpoints, the newest first: by the time they were renamed or written, then by step.
std::vector<fs::path> newest_first(const fs::path& folder) {
  std::vector<std::pair<fs::file_time_type, fs::path>> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (!entry.path().filename().string().starts_with(kStepPrefix)) continue;
    const auto written = fs::last_write_time(entry.path() / "state.json", error);
    if (!error && holds_model(entry.path())) found.emplace_back(written, entry.path());
  }
  std::sort(found.rbegin(), found.rend());
  std::vector<fs::path> paths;
  paths.reserve(found.size());
  for (const auto& [written, path] : found) paths.push_back(path);
  return paths;
}

// The entries of a folder, to the disk; where the system cannot, that is no error.
void sync_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

void rename_folder(const fs::path& from, const fs::path& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) {
    fail("{}: cannot rename to {}: {}", from.string(), to.filename().string(),
         std::strerror(errno));
  }
}

// An older checkpoint of the same step changes places with the new one where the file system can
// exchange two names at once; elsewhere it steps aside first.
void replace_folder(const fs::path& from, const fs::path& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) return;
  const fs::path aside = from.string() + ".old";
  rename_folder(to, aside);
  rename_folder(from, to);
  rename_folder(aside, from);
}

}  // namespace

std::string CheckpointPlace::name() const { return fmt::format("{}{:06}", kStepPrefix, step); }

std::string CheckpointPlace::folder() const {
  return (checkpoints_of(run_folder) / name()).string();
}

std::string CheckpointPlace::temporary() const {
  return (checkpoints_of(run_folder) / ("." + name() + ".tmp")).string();
}

void begin_checkpoint(const CheckpointPlace& place) {
  std::error_code error;
  fs::remove_all(place.temporary(), error);
  if (!error) fs::create_directories(place.temporary(), error);
  if (error) fail("{}: cannot create the folder: {}", place.temporary(), error.message());
}

void publish_checkpoint(const CheckpointPlace& place) {
  const fs::path temporary = place.temporary(), folder = place.folder();
  sync_folder(temporary);
  const bool replaces = fs::exists(folder);
  if (replaces) {
    replace_folder(temporary, folder);
  } else {
    rename_folder(temporary, folder);
  }
  sync_folder(folder.parent_path());
  write_text_file((folder.parent_path() / kLatest).string(), place.name() + "\n");
  sync_folder(folder.parent_path());
  if (replaces) discard_checkpoint(place);
}

void discard_checkpoint(const CheckpointPlace& place) noexcept {
  std::error_code ignored;
  fs::remove_all(place.temporary(), ignored);
}

void prune_checkpoints(const CheckpointPlace& place, int keep) noexcept {
  try {
    int kept = 1;
    for (const fs::path& path : newest_first(checkpoints_of(place.run_folder))) {
      if (path == fs::path(place.folder()) || kept++ < keep) continue;
      std::error_code ignored;
      fs::remove_all(path, ignored);
    }
  } catch (const std::exception&) {
    return;  // an old checkpoint too many does no harm
  }
}

std::string find_checkpoint(const std::string& path) {
  if (!fs::exists(path)) fail_input("{}: no such folder", path);
  if (holds_model(path)) return path;
  const fs::path folder = checkpoints_of(path);
  if (fs::exists(folder / kLatest)) {
    std::string name = read_text_file((folder / kLatest).string());
    while (!name.empty() && std::isspace(static_cast<unsigned char>(name.back())) != 0) {
      name.pop_back();
    }
    const bool inside = !name.empty() && name.find('/') == std::string::npos;
    if (inside && holds_model(folder / name)) return (folder / name).string();
  }
  const std::vector<fs::path> found = newest_first(folder);
  if (found.empty()) {
    fail_input("{}: no checkpoint: expected model.safetensors here or in checkpoints/step_...",
               path);
  }
  return found.front().string();
}

}  // namespace imhotep::executor
