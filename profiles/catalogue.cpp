#include "profiles/catalogue.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <tuple>

#include "core/base/fail.h"
#include "core/base/units.h"
#include "core/spec/parameters.h"

namespace imhotep::profiles {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLocal = "local";

bool is_data_directory(const fs::path& folder) {
  std::error_code error;
  return fs::is_directory(folder / "models", error) && fs::is_directory(folder / "clusters", error);
}

bool is_path(const std::string& name) {
  return name.find('/') != std::string::npos || name.ends_with(".json");
}

// Names of the .json files of a folder, sorted.
std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  }
  if (error) fail_missing("{}: cannot list: {}", folder.string(), error.message());
  std::sort(names.begin(), names.end());
  return names;
}

std::string file_of(const char* folder, const std::string& name) {
  return (fs::path(data_directory()) / folder / (name + ".json")).string();
}

[[noreturn]] void refuse_unknown(const std::string& kind, const std::string& name,
                                 const std::vector<std::string>& known) {
  const std::string near = nearest(name, known);
  fail_input("unknown {} \"{}\"{} (try: imhotep {}s, or give the path of a .json file)", kind, name,
             near.empty() ? "" : fmt::format("; did you mean \"{}\"?", near), kind);
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

std::string data_directory() {
  if (const char* chosen = std::getenv("IMHOTEP_DATA"); chosen != nullptr && *chosen != '\0') {
    if (is_data_directory(chosen)) return chosen;
    fail_input("IMHOTEP_DATA={}: expected a folder with models/ and clusters/ in it", chosen);
  }
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  const fs::path installed = program.parent_path().parent_path() / "share" / "imhotep";
  if (is_data_directory(installed)) return installed.string();
  if (is_data_directory(IMHOTEP_SOURCE_DATA)) return IMHOTEP_SOURCE_DATA;
  fail_missing("no catalogue: neither {} nor {} has models/ and clusters/; set IMHOTEP_DATA",
               installed.string(), IMHOTEP_SOURCE_DATA);
}

std::vector<std::string> model_names() { return names_in(fs::path(data_directory()) / "models"); }

std::vector<std::string> cluster_names() {
  std::vector<std::string> names = names_in(fs::path(data_directory()) / "clusters");
  names.emplace_back(kLocal);
  return names;
}

ModelSpec find_model(const std::string& name) {
  if (is_path(name)) return read_model(name);
  const std::vector<std::string> known = model_names();
  if (!contains(known, name)) refuse_unknown("model", name, known);
  return read_model(file_of("models", name));
}

ClusterSpec find_cluster(const std::string& name) {
  if (name == kLocal) return detect_local_cluster();
  if (is_path(name)) return read_cluster(name);
  const std::vector<std::string> known = cluster_names();
  if (!contains(known, name)) refuse_unknown("cluster", name, known);
  return read_cluster(file_of("clusters", name));
}

std::vector<ModelSpec> models() {
  std::vector<ModelSpec> all;
  for (const std::string& name : model_names()) all.push_back(find_model(name));
  std::sort(all.begin(), all.end(), [](const ModelSpec& a, const ModelSpec& b) {
    return std::tuple(parameters(a), a.name) < std::tuple(parameters(b), b.name);
  });
  return all;
}

std::vector<ClusterSpec> clusters() {
  std::vector<ClusterSpec> all;
  for (const std::string& name : cluster_names()) all.push_back(find_cluster(name));
  return all;
}

}  // namespace imhotep::profiles
