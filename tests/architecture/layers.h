#pragma once
// The floors of the house, held over the #include lines: which room may use which, which heavy
// headers may sit in a header, and how long a file may be. Works on a map from path to text, so
// that a planted violation can be tested as well as the tree on disk.

#include <map>
#include <string>
#include <vector>

namespace imhotep::architecture {

// Paths from the root, with '/', to the text of every .h, .cpp and .cu file.
using SourceTree = std::map<std::string, std::string>;

struct Finding {
  std::string path;
  int line = 0;  // 0: the whole file
  std::string text;
};

// Reads every source file below the rooms of `root`. Throws: Error when there is none.
[[nodiscard]] SourceTree read_tree(const std::string& root);

// Includes that climb: an unknown room, a forbidden room, or a path that is not from the root.
[[nodiscard]] std::vector<Finding> forbidden_includes(const SourceTree& tree);

// nlohmann/json.hpp in a header outside core/base and tests (0.5 s for every file that includes
// it).
[[nodiscard]] std::vector<Finding> heavy_headers(const SourceTree& tree);

// .cu files that reach fmt or spdlog, directly or through our headers, where nvcc fails in C++20.
[[nodiscard]] std::vector<Finding> device_includes(const SourceTree& tree);

// Files longer than the hard limit of 500 lines.
[[nodiscard]] std::vector<Finding> oversized_files(const SourceTree& tree);

// Files beyond the aim: headers of more than 150 lines, sources of more than 300.
[[nodiscard]] std::vector<Finding> long_files(const SourceTree& tree);

[[nodiscard]] std::string describe(const std::vector<Finding>& findings);

}  // namespace imhotep::architecture
