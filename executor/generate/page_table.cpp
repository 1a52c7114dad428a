#include "executor/generate/page_table.h"

#include <algorithm>

#include "core/base/fail.h"

namespace imhotep::executor {

PageTable::PageTable(std::span<std::int32_t> table, std::int64_t sequences, std::int64_t page_size)
    : table_(table),
      max_pages_(static_cast<std::int64_t>(table.size()) / sequences),
      page_size_(page_size),
      held_(sequences, 0) {
  std::fill(table_.begin(), table_.end(), -1);
  for (auto page = static_cast<std::int32_t>(table.size()) - 1; page >= 0; --page) {
    free_.push_back(page);
  }
}

void PageTable::grow(std::int64_t sequence, std::int64_t tokens) {
  const std::int64_t needed = (tokens + page_size_ - 1) / page_size_;
  if (needed > max_pages_) {
    fail("sequence {} needs {} KV pages, a sequence may have {}", sequence, needed, max_pages_);
  }
  std::int64_t& held = held_[sequence];
  for (; held < needed; ++held) {
    if (free_.empty()) fail("the KV cache is full ({} pages)", table_.size());
    table_[sequence * max_pages_ + held] = free_.back();
    free_.pop_back();
  }
}

void PageTable::release(std::int64_t sequence) {
  std::int64_t& held = held_[sequence];
  for (; held > 0; --held) {
    std::int32_t& page = table_[sequence * max_pages_ + held - 1];
    free_.push_back(page);
    page = -1;
  }
}

}  // namespace imhotep::executor
