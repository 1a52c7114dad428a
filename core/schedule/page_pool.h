#pragma once
// Pages of one data rank's KV cache, and the slots (rows of its block table) that hold them. The
// lowest free number is taken first, so that memory which was never needed is never touched.

#include <cstdint>
#include <set>
#include <vector>

#include "core/schedule/step.h"

namespace imhotep::schedule {

class PagePool {
 public:
  PagePool(std::int64_t slots, std::int64_t pages, std::int64_t page_size);

  [[nodiscard]] std::int64_t pages_for(std::int64_t tokens) const {
    return (tokens + page_size_ - 1) / page_size_;
  }
  [[nodiscard]] std::int64_t free_pages() const {
    return static_cast<std::int64_t>(free_pages_.size());
  }
  [[nodiscard]] std::int64_t free_slots() const {
    return static_cast<std::int64_t>(free_slots_.size());
  }
  [[nodiscard]] std::int64_t held(int slot) const {
    return static_cast<std::int64_t>(held_[slot].size());
  }

  // Requires: free_slots() > 0.
  [[nodiscard]] int take_slot();
  // Whether the pages for `tokens` tokens are, or now become, the slot's; nothing changes if not.
  [[nodiscard]] bool grow(int slot, std::int64_t tokens, std::vector<PageChange>& changes);
  // The slot and its pages are free again.
  void release(int slot);

 private:
  std::int64_t page_size_;
  std::set<int> free_pages_, free_slots_;
  std::vector<std::vector<int>> held_;  // by slot
};

}  // namespace imhotep::schedule
