#pragma once
// One process group and what its members do together. Every member calls the same collectives in
// the same order; sizes are int64 bytes throughout.
//
// One primitive carries all data: transfer() sends every member a list of memory pieces as one
// message and places what arrives into another list of pieces, so that layout transforms cost no
// extra buffer. Gathers and all-to-alls are transfers with particular lists. Messages without
// bytes are not sent.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/base/dtype.h"
#include "core/layout/groups.h"

namespace imhotep::executor {

// Data sent to other members; a message is one transfer to one of them. Sums are not counted:
// their messages are the MPI library's choice.
struct Traffic {
  std::int64_t messages = 0, bytes = 0;
  Traffic& operator+=(const Traffic& other);
  [[nodiscard]] Traffic operator-(const Traffic& other) const;
  bool operator==(const Traffic&) const = default;
};

struct Piece {
  std::int64_t offset = 0, bytes = 0;  // offset in bytes
};

// For each member a list of pieces. Keeps its memory when it is filled again.
class PieceLists {
 public:
  // join: pieces that touch become one. Without it both ends of a transfer can cut alike.
  explicit PieceLists(int members = 0, int pieces_each = 1, bool join = true);
  void clear();
  // Members ascending. Empty pieces vanish.
  void add(int member, std::int64_t offset, std::int64_t bytes);
  [[nodiscard]] std::span<const Piece> of(int member) const;
  [[nodiscard]] std::int64_t bytes(int member) const;

 private:
  std::vector<int> ends_;  // of each member's pieces; members after the last one added: no pieces
  std::vector<Piece> pieces_;
  int last_ = -1;
  bool join_ = true;
};

// What is common to two lists of equally many bytes, cut differently: offsets in either, bytes.
void for_each_piece(
    std::span<const Piece> from, std::span<const Piece> to,
    const std::function<void(std::int64_t source, std::int64_t target, std::int64_t bytes)>& move);

class Communicator {
 public:
  virtual ~Communicator() = default;
  [[nodiscard]] int rank() const { return rank_; }  // in this group
  [[nodiscard]] int size() const { return static_cast<int>(members_.size()); }
  [[nodiscard]] const Members& members() const { return members_; }
  [[nodiscard]] const Traffic& traffic() const { return traffic_; }
  // Whether a message must be received in the pieces in which it was sent.
  [[nodiscard]] virtual bool cuts_alike() const { return false; }

  // In place, element by element; afterwards all members hold the same bits.
  virtual void all_reduce(void* data, std::int64_t elements, Dtype dtype) = 0;
  // out[elements] = sum over members of their in[rank][elements], added in rank order.
  // in: [size, elements]; out may be in's own part.
  virtual void reduce_scatter(const void* in, void* out, std::int64_t elements, Dtype dtype) = 0;
  virtual void barrier() = 0;

  // Throws: Failed naming `what`, the group and the rank.
  // Requires: what a member sends to another has no more bytes than that one expects from it (less
  // fills the first pieces); in and out are apart, save for pieces that stay where they are.
  void transfer(std::string_view what, const void* in, void* out, const PieceLists& send,
                const PieceLists& receive);

  // out: [size, bytes_per_rank]; in may be its own part of out.
  virtual void all_gather(const void* in, void* out, std::int64_t bytes_per_rank);
  // out: member m's part is [offsets[m], offsets[m + 1]) bytes; in may be its own part of out.
  void all_gather_v(const void* in, void* out, std::span<const std::int64_t> offsets);
  // Both [size, bytes_per_peer].
  void all_to_all(const void* in, void* out, std::int64_t bytes_per_peer);
  // Bytes for, and from, each member, and where they begin.
  struct Parts {
    std::span<const std::int64_t> bytes, offsets;
  };
  void all_to_all_v(const void* in, void* out, const Parts& send, const Parts& receive);

 protected:
  Communicator(Members members, int rank);
  // This rank's own pieces, some of which may be in place already.
  virtual void copy_own(const void* in, void* out, std::span<const Piece> from,
                        std::span<const Piece> to);
  // Messages between this rank and all others; its own pieces are already in place.
  virtual void transfer_others(std::string_view what, const void* in, void* out,
                               const PieceLists& send, const PieceLists& receive) = 0;
  void count(std::int64_t messages, std::int64_t bytes);
  // "all_reduce over ranks {0, 2, 4}, at rank 2"
  [[nodiscard]] std::string place(std::string_view what) const;

 private:
  Members members_;
  int rank_ = 0;
  Traffic traffic_;
  PieceLists send_, receive_;
};

// A group of one: nothing to send.
[[nodiscard]] std::unique_ptr<Communicator> make_lone_communicator(Rank rank);

// Over MPI. Collective over the members alone; `tag` tells groups apart that are made at one time.
// Requires: MPI runs, and this process is one of the members.
[[nodiscard]] std::unique_ptr<Communicator> make_mpi_communicator(const Members& members, int tag);

}  // namespace imhotep::executor
