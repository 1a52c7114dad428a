#pragma once
// Text for tests: opening lines of works in the public domain, and words drawn by seed.

#include <string>

#include "core/base/random.h"

namespace imhotep::executor {

// Lewis Carroll, "Alice's Adventures in Wonderland" (1865), opening.
inline constexpr const char* kAlice =
    "Alice was beginning to get very tired of sitting by her sister on the bank, and of having "
    "nothing to do: once or twice she had peeped into the book her sister was reading, but it had "
    "no pictures or conversations in it, \"and what is the use of a book,\" thought Alice "
    "\"without pictures or conversations?\"\n"
    "So she was considering in her own mind (as well as she could, for the hot day made her feel "
    "very sleepy and stupid), whether the pleasure of making a daisy-chain would be worth the "
    "trouble of getting up and picking the daisies, when suddenly a White Rabbit with pink eyes "
    "ran close by her.\n"
    "There was nothing so very remarkable in that; nor did Alice think it so very much out of the "
    "way to hear the Rabbit say to itself, \"Oh dear! Oh dear! I shall be late!\"\n";

// Lines of words built from a small set of syllables, so that pieces can be learnt.
inline std::string random_lines(std::uint64_t seed, int lines) {
  static const char* const kSyllables[] = {"ba", "ko", "ri",  "stan", "el",  "mu",
                                           "te", "or", "pli", "ne",   "gra", "so"};
  std::string text;
  for (int line = 0; line < lines; ++line) {
    const auto l = static_cast<std::uint64_t>(line);
    const auto words = 4 + hash(seed, l) % 9;
    for (std::uint64_t word = 0; word < words; ++word) {
      const auto parts = 1 + hash(seed, l, word) % 3;
      if (word > 0) text += ' ';
      for (std::uint64_t part = 0; part < parts; ++part) {
        text += kSyllables[hash(seed, l, word, part + 1) % 12];
      }
    }
    text += ".\n";
  }
  return text;
}

}  // namespace imhotep::executor
