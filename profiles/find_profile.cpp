// Where profiles lie and which one serves a cluster. Contract: profiles/profile.h.

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <sstream>

#include "core/base/error.h"
#include "profiles/catalogue.h"
#include "profiles/profile.h"

namespace imhotep::profiles {
namespace {

namespace fs = std::filesystem;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::vector<std::string> chosen_folders() {
  std::vector<std::string> folders;
  std::istringstream list(environment("IMHOTEP_PROFILES"));
  for (std::string folder; std::getline(list, folder, ':');) {
    if (!folder.empty()) folders.push_back(folder);
  }
  return folders;
}

std::string shipped_folder() {
  try {
    return (fs::path(data_directory()) / "measured").string();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::Missing) throw;
    return {};  // no catalogue at all: the user's own profiles still serve
  }
}

std::string home_folder() {
  const std::string data = environment("XDG_DATA_HOME");
  const std::string home = environment("HOME");
  if (data.empty() && home.empty()) return {};
  const fs::path base = data.empty() ? fs::path(home) / ".local" / "share" : fs::path(data);
  return (base / "imhotep" / "profiles").string();
}

// Files are asked several questions and are large: each is read once.
class ProfileFiles {
 public:
  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }
  const Profile& operator[](const std::string& file) {
    const auto known = read_.find(file);
    return known != read_.end() ? known->second
                                : read_.emplace(file, read_profile(file)).first->second;
  }

 private:
  std::vector<std::string> names_ = profile_files();
  std::map<std::string, Profile> read_;
};

// Of two profiles that serve equally well the earlier found is kept unless the other is newer
// and from the same folder.
template <class Serves>
std::optional<Profile> best_of(ProfileFiles& files, Serves serves) {
  const Profile* best = nullptr;
  std::string best_folder;
  for (const std::string& file : files.names()) {
    const std::string folder = fs::path(file).parent_path().string();
    if (best != nullptr && folder != best_folder) break;
    const Profile& profile = files[file];
    if (!serves(profile) || (best != nullptr && profile.date <= best->date)) continue;
    best = &profile;
    best_folder = folder;
  }
  return best == nullptr ? std::nullopt : std::optional(*best);
}

bool has_collective(const Profile& profile, const CollectiveTable& wanted) {
  return std::any_of(profile.collectives.begin(), profile.collectives.end(), [&](const auto& own) {
    return own.kind == wanted.kind && own.group_size == wanted.group_size &&
           own.nodes == wanted.nodes;
  });
}

// Kernels of one profile, and what another knows of groups that the first never measured.
Profile with_collectives_of(Profile kernels, const Profile& links) {
  for (const CollectiveTable& table : links.collectives) {
    if (!has_collective(kernels, table)) kernels.collectives.push_back(table);
  }
  kernels.name += " with collectives of " + links.name;
  kernels.hash = profile_hash(kernels);
  return kernels;
}

}  // namespace

std::string user_profile_folder() {
  const std::vector<std::string> chosen = chosen_folders();
  return chosen.empty() ? home_folder() : chosen.front();
}

std::vector<std::string> profile_folders() {
  std::vector<std::string> folders = chosen_folders();
  for (const std::string& folder : {home_folder(), shipped_folder()}) {
    if (!folder.empty()) folders.push_back(folder);
  }
  return folders;
}

std::vector<std::string> profile_files() {
  std::vector<std::string> files;
  for (const std::string& folder : profile_folders()) {
    std::vector<std::string> found;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
      if (entry.path().extension() == ".json") found.push_back(entry.path().string());
    }
    std::sort(found.begin(), found.end());
    files.insert(files.end(), found.begin(), found.end());
  }
  return files;
}

std::optional<Profile> find_profile(const std::string& name) {
  ProfileFiles files;
  return best_of(files, [&](const Profile& profile) { return profile.name == name; });
}

std::optional<Profile> find_profile(const ClusterSpec& cluster) {
  ProfileFiles files;
  const auto same_device = [&](const Profile& profile) {
    return cluster.device.name.empty() || profile.device.name == cluster.device.name;
  };
  std::optional<Profile> named = best_of(files, [&](const Profile& profile) {
    return profile.name == cluster.name && same_device(profile);
  });
  if (cluster.device.name.empty()) return named;
  std::optional<Profile> ours = best_of(files, [&](const Profile& profile) {
    return profile.kernels.empty() && same_device(profile);
  });
  if (!named) return ours ? ours : best_of(files, same_device);
  if (named->kernels.empty() || !ours) return named;
  return with_collectives_of(std::move(*ours), *named);
}

}  // namespace imhotep::profiles
