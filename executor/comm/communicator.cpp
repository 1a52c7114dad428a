#include "executor/comm/communicator.h"

#include <algorithm>
#include <cstring>

#include "core/base/fail.h"

namespace imhotep::executor {

Traffic& Traffic::operator+=(const Traffic& other) {
  messages += other.messages;
  bytes += other.bytes;
  return *this;
}

Traffic Traffic::operator-(const Traffic& other) const {
  return {.messages = messages - other.messages, .bytes = bytes - other.bytes};
}

PieceLists::PieceLists(int members, int pieces_each, bool join) : ends_(members, 0), join_(join) {
  pieces_.reserve(static_cast<std::size_t>(members) * pieces_each);
}

void PieceLists::clear() {
  pieces_.clear();
  last_ = -1;
}

void PieceLists::add(int member, std::int64_t offset, std::int64_t bytes) {
  if (member < last_) fail("pieces of member {} after those of member {}", member, last_);
  for (; last_ < member; ++last_) ends_.at(last_ + 1) = static_cast<int>(pieces_.size());
  if (bytes == 0) return;
  const auto begin = static_cast<std::size_t>(member == 0 ? 0 : ends_[member - 1]);
  if (join_ && pieces_.size() > begin && pieces_.back().offset + pieces_.back().bytes == offset) {
    pieces_.back().bytes += bytes;
  } else {
    pieces_.push_back({.offset = offset, .bytes = bytes});
  }
  ends_[member] = static_cast<int>(pieces_.size());
}

std::span<const Piece> PieceLists::of(int member) const {
  if (member > last_) return {};
  const int begin = member == 0 ? 0 : ends_[member - 1];
  return std::span(pieces_).subspan(begin, ends_[member] - begin);
}

std::int64_t PieceLists::bytes(int member) const {
  std::int64_t sum = 0;
  for (const Piece& piece : of(member)) sum += piece.bytes;
  return sum;
}

void for_each_piece(
    std::span<const Piece> from, std::span<const Piece> to,
    const std::function<void(std::int64_t source, std::int64_t target, std::int64_t bytes)>& move) {
  std::size_t f = 0, t = 0;
  std::int64_t f_done = 0, t_done = 0;
  while (f < from.size() && t < to.size()) {
    const std::int64_t bytes = std::min(from[f].bytes - f_done, to[t].bytes - t_done);
    move(from[f].offset + f_done, to[t].offset + t_done, bytes);
    f_done += bytes;
    t_done += bytes;
    if (f_done == from[f].bytes) ++f, f_done = 0;
    if (t_done == to[t].bytes) ++t, t_done = 0;
  }
}

Communicator::Communicator(Members members, int rank)
    : members_(std::move(members)), rank_(rank), send_(size()), receive_(size()) {}

void Communicator::count(std::int64_t messages, std::int64_t bytes) {
  traffic_ += {.messages = messages, .bytes = bytes};
}

std::string Communicator::place(std::string_view what) const {
  constexpr std::size_t kShown = 16;
  std::string list;
  for (std::size_t i = 0; i < std::min(members_.size(), kShown); ++i) {
    list += fmt::format("{}{}", i == 0 ? "" : ", ", members_[i].value);
  }
  if (members_.size() > kShown) list += fmt::format(", ... {} in all", members_.size());
  return fmt::format("{} over ranks {{{}}}, at rank {}", what, list, members_[rank_].value);
}

void Communicator::copy_own(const void* in, void* out, std::span<const Piece> from,
                            std::span<const Piece> to) {
  for_each_piece(from, to, [&](std::int64_t source, std::int64_t target, std::int64_t bytes) {
    const char* a = static_cast<const char*>(in) + source;
    char* b = static_cast<char*>(out) + target;
    if (a != b) std::memmove(b, a, static_cast<std::size_t>(bytes));
  });
}

void Communicator::transfer(std::string_view what, const void* in, void* out,
                            const PieceLists& send, const PieceLists& receive) {
  const std::int64_t kept = send.bytes(rank_), expected = receive.bytes(rank_);
  if (kept != expected) fail("{}: keeps {} bytes but expects {}", place(what), kept, expected);
  copy_own(in, out, send.of(rank_), receive.of(rank_));
  for (int m = 0; m < size(); ++m) {
    if (m != rank_ && !send.of(m).empty()) count(1, send.bytes(m));
  }
  if (size() > 1) transfer_others(what, in, out, send, receive);
}

void Communicator::all_gather(const void* in, void* out, std::int64_t bytes_per_rank) {
  send_.clear();
  receive_.clear();
  for (int m = 0; m < size(); ++m) {
    send_.add(m, 0, bytes_per_rank);
    receive_.add(m, m * bytes_per_rank, bytes_per_rank);
  }
  transfer("all_gather", in, out, send_, receive_);
}

void Communicator::all_gather_v(const void* in, void* out, std::span<const std::int64_t> offsets) {
  send_.clear();
  receive_.clear();
  for (int m = 0; m < size(); ++m) {
    send_.add(m, 0, offsets[rank_ + 1] - offsets[rank_]);
    receive_.add(m, offsets[m], offsets[m + 1] - offsets[m]);
  }
  transfer("all_gather_v", in, out, send_, receive_);
}

void Communicator::all_to_all(const void* in, void* out, std::int64_t bytes_per_peer) {
  send_.clear();
  for (int m = 0; m < size(); ++m) send_.add(m, m * bytes_per_peer, bytes_per_peer);
  transfer("all_to_all", in, out, send_, send_);
}

void Communicator::all_to_all_v(const void* in, void* out, const Parts& send,
                                const Parts& receive) {
  send_.clear();
  receive_.clear();
  for (int m = 0; m < size(); ++m) {
    send_.add(m, send.offsets[m], send.bytes[m]);
    receive_.add(m, receive.offsets[m], receive.bytes[m]);
  }
  transfer("all_to_all_v", in, out, send_, receive_);
}

namespace {

class LoneCommunicator final : public Communicator {
 public:
  explicit LoneCommunicator(Rank rank) : Communicator({rank}, 0) {}
  void all_reduce(void*, std::int64_t, Dtype) override {}
  void reduce_scatter(const void* in, void* out, std::int64_t elements, Dtype dtype) override {
    if (in != out) std::memmove(out, in, static_cast<std::size_t>(elements * bytes_of(dtype)));
  }
  void barrier() override {}

 protected:
  void transfer_others(std::string_view, const void*, void*, const PieceLists&,
                       const PieceLists&) override {}
};

}  // namespace

std::unique_ptr<Communicator> make_lone_communicator(Rank rank) {
  return std::make_unique<LoneCommunicator>(rank);
}

}  // namespace imhotep::executor
