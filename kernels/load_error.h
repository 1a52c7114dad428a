#pragma once
// What the loader says when a library that another needs is missing or has another version.

#include <string>

namespace imhotep::kernels {

// The text of dlerror(), and, where it names a versioned library that cannot be opened, which other
// version of it is there or that none is.
[[nodiscard]] std::string explain_load_error(const std::string& text);

}  // namespace imhotep::kernels
