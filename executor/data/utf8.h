#pragma once
// UTF-8, as strictly as the Unicode standard (table 3-7): no overlong forms, no surrogates.

#include <cstdint>
#include <string>
#include <string_view>

namespace imhotep::executor {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// Bytes of the character that starts at `at`; 0 where no valid character starts.
[[nodiscard]] std::size_t character_bytes(std::string_view text, std::size_t at);

// True when the text ends inside a character that more bytes could complete; `begin` is its start.
[[nodiscard]] bool ends_inside_character(std::string_view text, std::size_t& begin);

struct RepairedText {
  std::string text;  // every byte that belongs to no character became U+FFFD
  std::int64_t replaced = 0;
};
[[nodiscard]] RepairedText repair_utf8(std::string text);

}  // namespace imhotep::executor
