// Messages of the TCP world: all of a collective at once, as the sockets allow. A header (group,
// bytes) comes before the bytes of every message. What arrives for a later collective stays in its
// socket until that one asks for it.

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "core/base/fail.h"
#include "executor/comm/tcp_world.h"

namespace imhotep::executor {
namespace {

constexpr std::uint32_t kMessage = 0x494d4831, kEnd = 0x494d4845;

struct Header {
  std::uint32_t kind = kMessage, group = 0;  // kEnd: group is an exit code
  std::int64_t bytes = 0;
};

struct Gone {
  std::string why;
};

// How far a message has come over its header and pieces.
class Progress {
 public:
  Progress(const TcpWorld::Flow& flow, std::uint32_t group) : flow_(flow), header_{.group = group} {
    for (const Piece& piece : flow.pieces) header_.bytes += piece.bytes;
    left_ = header_.bytes;
  }
  [[nodiscard]] const TcpWorld::Flow& flow() const { return flow_; }
  [[nodiscard]] bool done() const { return header_done_ == sizeof header_ && left_ == 0; }

  // One system call; false: the socket does not take, or has, more now. Throws: Gone.
  bool send_some(int socket) { return step(socket, true) > 0; }
  // As send_some. Ends the process when the peer says so. Throws: Failed for another message.
  bool receive_some(int socket, const std::function<std::string()>& what) {
    const bool in_header = header_done_ < sizeof header_;
    const std::int64_t most = header_.bytes;
    const std::uint32_t group = header_.group;
    if (in_header && header_done_ == 0) expected_ = {most, group};
    if (step(socket, false) <= 0) return false;
    if (in_header && header_done_ == sizeof header_) check(what);
    return true;
  }

 private:
  void check(const std::function<std::string()>& what) {
    if (header_.kind == kEnd) std::_Exit(static_cast<int>(header_.group));
    const auto [most, group] = expected_;
    if (header_.kind != kMessage || header_.group != group || header_.bytes > most) {
      fail("{}: rank {} sends {} bytes of another collective, {} were expected", what(), flow_.peer,
           header_.bytes, most);
    }
    left_ = header_.bytes;
  }

  ssize_t step(int socket, bool sends) {
    std::array<iovec, 32> parts;
    std::size_t count = 0;
    if (header_done_ < sizeof header_) {
      parts[count++] = {reinterpret_cast<char*>(&header_) + header_done_,
                        sizeof header_ - header_done_};
    }
    if (sends || header_done_ == sizeof header_) count = add_pieces(parts, count);
    msghdr message = {};
    message.msg_iov = parts.data();
    message.msg_iovlen = count;
    const ssize_t moved =
        sends ? ::sendmsg(socket, &message, MSG_NOSIGNAL) : ::recvmsg(socket, &message, 0);
    if (moved > 0) return advance(moved), moved;
    if (moved < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return 0;
    if (moved == 0 && sends) return 0;
    throw Gone{moved == 0 ? "its connection was closed" : std::strerror(errno)};
  }

  std::size_t add_pieces(std::array<iovec, 32>& parts, std::size_t count) const {
    std::int64_t offset = piece_done_, left = left_;
    for (std::size_t p = piece_; p < flow_.pieces.size() && count < parts.size() && left > 0; ++p) {
      const Piece& piece = flow_.pieces[p];
      const std::int64_t bytes = std::min(piece.bytes - offset, left);
      parts[count++] = {flow_.base + piece.offset + offset, static_cast<std::size_t>(bytes)};
      left -= bytes;
      offset = 0;
    }
    return count;
  }

  void advance(ssize_t moved) {
    const auto header =
        std::min<std::size_t>(static_cast<std::size_t>(moved), sizeof header_ - header_done_);
    header_done_ += header;
    std::int64_t bytes = moved - static_cast<ssize_t>(header);
    left_ -= bytes;
    while (bytes > 0) {
      const std::int64_t rest = flow_.pieces[piece_].bytes - piece_done_;
      const std::int64_t step = std::min(rest, bytes);
      piece_done_ += step;
      bytes -= step;
      if (piece_done_ == flow_.pieces[piece_].bytes) ++piece_, piece_done_ = 0;
    }
  }

  TcpWorld::Flow flow_;
  Header header_;
  struct {
    std::int64_t bytes = 0;
    std::uint32_t group = 0;
  } expected_;
  std::size_t header_done_ = 0, piece_ = 0;
  std::int64_t piece_done_ = 0, left_ = 0;
};

}  // namespace

void TcpWorld::move(std::uint32_t group, const std::function<std::string()>& what,
                    std::span<const Flow> sends, std::span<const Flow> receives) {
  const auto attempt = [&](const Progress& one, const auto& naming, const auto& step) {
    try {
      return step() && !one.done();
    } catch (const Gone& gone) {
      listen_for_end();
      fail("{}: rank {} has gone: {}", naming(), one.flow().peer, gone.why);
    }
  };
  std::vector<Progress> out, in;
  for (const Flow& flow : sends) out.emplace_back(flow, group);
  for (const Flow& flow : receives) in.emplace_back(flow, group);
  std::vector<pollfd> ready;
  for (;;) {
    ready.clear();
    for (Progress& one : out) {
      const int socket = peers_[one.flow().peer].socket;
      bool more = !one.done();
      while (more) more = attempt(one, what, [&] { return one.send_some(socket); });
      if (!one.done()) ready.push_back({.fd = socket, .events = POLLOUT, .revents = 0});
    }
    for (Progress& one : in) {
      const int socket = peers_[one.flow().peer].socket;
      bool more = !one.done();
      while (more) more = attempt(one, what, [&] { return one.receive_some(socket, what); });
      if (!one.done()) ready.push_back({.fd = socket, .events = POLLIN, .revents = 0});
    }
    if (ready.empty()) return;
    ::poll(ready.data(), ready.size(), 1000);
  }
}

// Whoever ended the run may have said so; the lowest rank that is left waits shortest.
void TcpWorld::listen_for_end() const {
  ::usleep(static_cast<useconds_t>(200'000 + 50'000 * std::min(place_.rank, 40)));
  for (const Peer& peer : peers_) {
    Header header;
    const ssize_t got =
        peer.socket < 0 ? 0 : ::recv(peer.socket, &header, sizeof header, MSG_PEEK | MSG_DONTWAIT);
    if (got == sizeof header && header.kind == kEnd) std::_Exit(static_cast<int>(header.group));
  }
}

void TcpWorld::tell_end(int code) const {
  const Header header{.kind = kEnd, .group = static_cast<std::uint32_t>(code)};
  for (const Peer& peer : peers_) {
    if (peer.socket < 0) continue;
    static_cast<void>(::send(peer.socket, &header, sizeof header, MSG_NOSIGNAL | MSG_DONTWAIT));
    ::shutdown(peer.socket, SHUT_WR);
  }
  ::usleep(300'000);  // a socket that is closed at once may lose what was sent
}

}  // namespace imhotep::executor
