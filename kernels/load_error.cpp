#include "kernels/load_error.h"

#include <dlfcn.h>

#include <cstdlib>

#include "core/base/fail.h"

namespace imhotep::kernels {
namespace {

constexpr int kVersionsAround = 3;

bool can_open(const std::string& library) {
  void* handle = dlopen(library.c_str(), RTLD_LAZY | RTLD_LOCAL);
  if (handle != nullptr) dlclose(handle);
  return handle != nullptr;
}

}  // namespace

std::string explain_load_error(const std::string& text) {
  const std::string needed = text.substr(0, text.find(':'));
  const auto suffix = needed.rfind(".so.");
  const bool versioned = needed.starts_with("lib") && suffix != std::string::npos &&
                         text.find("cannot open shared object file") != std::string::npos;
  if (!versioned) return text;
  const std::string stem = needed.substr(0, suffix + 4);
  const int version = std::atoi(needed.c_str() + stem.size());
  for (int away = 1; away <= kVersionsAround; ++away) {
    for (const int other : {version - away, version + away}) {
      const std::string there = fmt::format("{}{}", stem, other);
      if (other >= 0 && can_open(there)) {
        return fmt::format("{}: {} is needed, {} is installed", text, needed, there);
      }
    }
  }
  return fmt::format(
      "{}: {} is needed, no version of it was found; install it or add its folder to "
      "LD_LIBRARY_PATH",
      text, needed);
}

}  // namespace imhotep::kernels
