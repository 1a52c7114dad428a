#pragma once
// Pages of the KV cache: which pages hold the tokens of each sequence. Pages are taken as a
// sequence grows and given back when it ends.

#include <cstdint>
#include <span>
#include <vector>

namespace imhotep::executor {

class PageTable {
 public:
  // table: [sequences, max_pages], the program's block table; filled in place.
  PageTable(std::span<std::int32_t> table, std::int64_t sequences, std::int64_t page_size);

  // Makes room for tokens [0, tokens) of the sequence. Throws: Failed when no page is free.
  void grow(std::int64_t sequence, std::int64_t tokens);
  void release(std::int64_t sequence);
  [[nodiscard]] std::int64_t free_pages() const { return static_cast<std::int64_t>(free_.size()); }

 private:
  std::span<std::int32_t> table_;
  std::int64_t max_pages_, page_size_;
  std::vector<std::int64_t> held_;  // pages of each sequence
  std::vector<std::int32_t> free_;
};

}  // namespace imhotep::executor
