#pragma once
// fail("{}: expected {}, got {}", where, expected, got): the formatted ways to raise an Error.
// For .cpp files only: fmt 9 does not compile under nvcc in C++20.

#include <fmt/format.h>

#include <utility>

#include "core/base/error.h"

namespace imhotep {

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> text, Args&&... args) {
  raise(ErrorKind::Failed, fmt::format(text, std::forward<Args>(args)...));
}

template <class... Args>
[[noreturn]] void fail_input(fmt::format_string<Args...> text, Args&&... args) {
  raise(ErrorKind::Input, fmt::format(text, std::forward<Args>(args)...));
}

template <class... Args>
[[noreturn]] void fail_missing(fmt::format_string<Args...> text, Args&&... args) {
  raise(ErrorKind::Missing, fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace imhotep
