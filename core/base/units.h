#pragma once
// Human numbers at the edges: `8k`, `1.5M`, `40GiB`, `300us` in, "40.0 GB", "1.25 ms" out.
// Inside the program: bytes are std::int64_t, times are microseconds in double.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace imhotep {

// Suffixes: k M G T (powers of 1000), Ki Mi Gi Ti (powers of 1024), an optional B.
// Throws: Error(Input) naming the text.
[[nodiscard]] double parse_number(std::string_view text);
[[nodiscard]] std::int64_t parse_integer(std::string_view text);
// Units: result in microseconds; suffixes ns us ms s min h; a bare number is refused.
[[nodiscard]] double parse_time_us(std::string_view text);

[[nodiscard]] std::string format_bytes(double bytes);   // "698 GB", decimal units
[[nodiscard]] std::string format_time(double time_us);  // "12.8 ms"
[[nodiscard]] std::string format_count(double count);   // "31.3 B"

// "1 rank", "8 ranks".
[[nodiscard]] std::string format_items(std::int64_t count, std::string_view noun);

// The element of `known` nearest to `word` by edit distance, or "" when none is near.
[[nodiscard]] std::string nearest(std::string_view word, const std::vector<std::string>& known);

}  // namespace imhotep
