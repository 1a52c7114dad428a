#pragma once
// What every SVG picture needs.

#include <string>

namespace imhotep {

[[nodiscard]] std::string svg_escaped(const std::string& text);

// A round step that gives about `ticks` ticks over `range`: 1, 2 or 5 times a power of ten.
[[nodiscard]] double round_tick(double range, int ticks);

}  // namespace imhotep
