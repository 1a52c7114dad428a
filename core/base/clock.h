#pragma once

#include <string>

namespace imhotep {

// "2026-11-22T02:07:00Z"
[[nodiscard]] std::string utc_now();

}  // namespace imhotep
