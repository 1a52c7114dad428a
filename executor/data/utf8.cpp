#include "executor/data/utf8.h"

#include <algorithm>

namespace imhotep::executor {
namespace {

struct LeadByte {
  std::size_t bytes = 0;                  // of the whole character; 0: not a lead byte
  unsigned char low = 0x80, high = 0xBF;  // range of the second byte
};

LeadByte lead_byte(unsigned char byte) {
  if (byte < 0x80) return {.bytes = 1};
  if (byte < 0xC2) return {};
  if (byte < 0xE0) return {.bytes = 2};
  if (byte == 0xE0) return {.bytes = 3, .low = 0xA0};
  if (byte == 0xED) return {.bytes = 3, .high = 0x9F};
  if (byte < 0xF0) return {.bytes = 3};
  if (byte == 0xF0) return {.bytes = 4, .low = 0x90};
  if (byte < 0xF4) return {.bytes = 4};
  if (byte == 0xF4) return {.bytes = 4, .high = 0x8F};
  return {};
}

// Bytes from `at` that fit the form of one character, at most all of them.
std::size_t fitting_bytes(std::string_view text, std::size_t at, const LeadByte& lead) {
  const std::size_t limit = std::min(lead.bytes, text.size() - at);
  std::size_t fitting = std::min<std::size_t>(limit, 1);
  while (fitting < limit) {
    const auto byte = static_cast<unsigned char>(text[at + fitting]);
    const bool second = fitting == 1;
    if (byte < (second ? lead.low : 0x80) || byte > (second ? lead.high : 0xBF)) break;
    ++fitting;
  }
  return fitting;
}

}  // namespace

std::size_t character_bytes(std::string_view text, std::size_t at) {
  const LeadByte lead = lead_byte(static_cast<unsigned char>(text[at]));
  return lead.bytes > 0 && fitting_bytes(text, at, lead) == lead.bytes ? lead.bytes : 0;
}

bool ends_inside_character(std::string_view text, std::size_t& begin) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, text.size()); ++back) {
    const std::size_t at = text.size() - back;
    const LeadByte lead = lead_byte(static_cast<unsigned char>(text[at]));
    if (lead.bytes == 0) continue;
    begin = at;
    return lead.bytes > back && fitting_bytes(text, at, lead) == back;
  }
  return false;
}

RepairedText repair_utf8(std::string text) {
  RepairedText repaired;
  std::size_t copied = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t bytes = character_bytes(text, at);
    if (bytes == 0) {
      repaired.text.append(text, copied, at - copied).append(kReplacementCharacter);
      copied = at + 1;
      ++repaired.replaced;
    }
    at += std::max<std::size_t>(bytes, 1);
  }
  if (copied == 0) {
    repaired.text = std::move(text);
  } else {
    repaired.text.append(text, copied);
  }
  return repaired;
}

}  // namespace imhotep::executor
