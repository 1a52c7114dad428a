#include "tests/architecture/layers.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <set>
#include <string_view>

#include "core/base/fail.h"

namespace imhotep::architecture {
namespace {

struct Room {
  std::string_view folder;
  std::vector<std::string_view> may_use;  // besides itself
};

// The last column of the table in docs/architecture.md. "core/base" comes before "core": the first
// room whose folder holds a file is the file's room. Tests may use everything.
const std::vector<Room>& rooms() {
  static const std::vector<Room> kRooms = {
      {"core/base", {}},
      {"core", {"core/base"}},
      {"profiles", {"core", "core/base"}},
      {"kernels", {"core/base"}},
      {"simulator", {"profiles", "core", "core/base"}},
      {"planner", {"simulator", "profiles", "core", "core/base"}},
      {"executor", {"kernels", "profiles", "core", "core/base"}},
      {"cli", {"planner", "executor", "simulator", "kernels", "profiles", "core", "core/base"}},
      {"gui", {"planner", "simulator", "profiles", "core", "core/base"}},
      {"tests",
       {"cli", "gui", "planner", "executor", "simulator", "kernels", "profiles", "core",
        "core/base"}},
  };
  return kRooms;
}

const Room* room_of(std::string_view path) {
  for (const Room& room : rooms()) {
    if (path.starts_with(room.folder) && path.substr(room.folder.size()).starts_with('/')) {
      return &room;
    }
  }
  return nullptr;
}

struct Include {
  int line = 0;
  bool quoted = false;
  std::string path;
};

std::optional<Include> parse_include(std::string_view line, int number) {
  const auto skip_blanks = [&line] {
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  };
  skip_blanks();
  if (!line.starts_with('#')) return std::nullopt;
  line.remove_prefix(1);
  skip_blanks();
  if (!line.starts_with("include")) return std::nullopt;
  line.remove_prefix(7);
  skip_blanks();
  if (line.empty() || (line.front() != '"' && line.front() != '<')) return std::nullopt;
  const bool quoted = line.front() == '"';
  const std::size_t end = line.find(quoted ? '"' : '>', 1);
  if (end == std::string_view::npos) return std::nullopt;
  return Include{number, quoted, std::string(line.substr(1, end - 1))};
}

std::vector<Include> includes_of(std::string_view text) {
  std::vector<Include> found;
  int number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size() - 1);
    if (auto include = parse_include(text.substr(0, end + 1), ++number)) {
      found.push_back(std::move(*include));
    }
    text.remove_prefix(end + 1);
  }
  return found;
}

std::vector<Finding> files_longer_than(const SourceTree& tree, std::int64_t header_limit,
                                       std::int64_t source_limit) {
  std::vector<Finding> findings;
  for (const auto& [path, text] : tree) {
    const auto lines = std::count(text.begin(), text.end(), '\n');
    const auto limit = path.ends_with(".h") ? header_limit : source_limit;
    if (lines > limit) {
      findings.push_back({path, 0, fmt::format("{} lines, at most {}", lines, limit)});
    }
  }
  return findings;
}

}  // namespace

SourceTree read_tree(const std::string& root) {
  namespace fs = std::filesystem;
  SourceTree tree;
  for (const auto& room : fs::directory_iterator(root)) {
    const std::string name = room.path().filename().string();
    if (!room.is_directory() || name.starts_with('.') || name == "build" || name == "run") continue;
    for (const auto& entry : fs::recursive_directory_iterator(room)) {
      const std::string extension = entry.path().extension().string();
      if (extension != ".h" && extension != ".cpp" && extension != ".cu") continue;
      std::ifstream file(entry.path(), std::ios::binary);
      tree[fs::relative(entry.path(), root).generic_string()] =
          std::string(std::istreambuf_iterator<char>(file), {});
    }
  }
  if (tree.empty()) fail_missing("{}: expected source files, got none", root);
  return tree;
}

std::vector<Finding> forbidden_includes(const SourceTree& tree) {
  std::vector<Finding> findings;
  for (const auto& [path, text] : tree) {
    const Room* from = room_of(path);
    if (from == nullptr) {
      findings.push_back({path, 0, "this folder is no room of the house"});
      continue;
    }
    for (const Include& include : includes_of(text)) {
      if (!include.quoted) continue;
      const Room* to = room_of(include.path);
      if (to == nullptr) {
        findings.push_back(
            {path, include.line, fmt::format("\"{}\" is not a path from the root", include.path)});
      } else if (to != from &&
                 std::ranges::find(from->may_use, to->folder) == from->may_use.end()) {
        findings.push_back(
            {path, include.line,
             fmt::format("{} may not use {}: \"{}\"", from->folder, to->folder, include.path)});
      }
    }
  }
  return findings;
}

std::vector<Finding> heavy_headers(const SourceTree& tree) {
  std::vector<Finding> findings;
  for (const auto& [path, text] : tree) {
    const bool exempt = path.starts_with("core/base/") || path.starts_with("tests/");
    if (!path.ends_with(".h") || exempt) continue;
    for (const Include& include : includes_of(text)) {
      if (include.path == "nlohmann/json.hpp") {
        findings.push_back({path, include.line, "nlohmann/json.hpp in a header"});
      }
    }
  }
  return findings;
}

std::vector<Finding> device_includes(const SourceTree& tree) {
  std::vector<Finding> findings;
  for (const auto& [source, unused] : tree) {
    if (!source.ends_with(".cu")) continue;
    std::set<std::string> seen;
    std::function<void(const std::string&)> walk = [&](const std::string& path) {
      const auto file = tree.find(path);
      if (file == tree.end() || !seen.insert(path).second) return;
      for (const Include& include : includes_of(file->second)) {
        if (include.path.starts_with("fmt/") || include.path.starts_with("spdlog/")) {
          findings.push_back(
              {path, include.line, fmt::format("{} is reached from {}", include.path, source)});
        } else if (include.quoted) {
          walk(include.path);
        }
      }
    };
    walk(source);
  }
  return findings;
}

std::vector<Finding> oversized_files(const SourceTree& tree) {
  return files_longer_than(tree, 500, 500);
}

std::vector<Finding> long_files(const SourceTree& tree) {
  return files_longer_than(tree, 150, 300);
}

std::string describe(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& finding : findings) {
    text += finding.line == 0
                ? fmt::format("\n{}: {}", finding.path, finding.text)
                : fmt::format("\n{}:{}: {}", finding.path, finding.line, finding.text);
  }
  return text;
}

}  // namespace imhotep::architecture
