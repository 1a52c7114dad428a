#include "executor/comm/tcp_socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "core/base/fail.h"

namespace imhotep::executor {
namespace {

constexpr std::size_t kLongestText = std::size_t{1} << 22;

sockaddr_in any_address(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_ANY);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  return address;
}

void set(int socket, int level, int option, int value) {
  ::setsockopt(socket, level, option, &value, sizeof value);
}

// Blocks of the handshake come at once or not at all.
void limit_waiting(int socket, double seconds) {
  timeval time = {.tv_sec = static_cast<time_t>(seconds), .tv_usec = 0};
  ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
  ::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
}

// One attempt; the socket, or -1 with errno.
int try_connect(const sockaddr_in& address, double seconds) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (socket < 0) fail("socket: {}", std::strerror(errno));
  int error = 0;
  if (::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    error = errno;
    if (error == EINPROGRESS) {
      pollfd ready = {.fd = socket, .events = POLLOUT, .revents = 0};
      error = ETIMEDOUT;
      socklen_t size = sizeof error;
      if (::poll(&ready, 1, static_cast<int>(1e3 * seconds)) == 1) {
        ::getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size);
      }
    }
  }
  if (error == 0) {
    ::fcntl(socket, F_SETFL, ::fcntl(socket, F_GETFL) & ~O_NONBLOCK);
    return socket;
  }
  ::close(socket);
  errno = error;
  return -1;
}

}  // namespace

double clock_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int listen_at(int port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) fail("socket: {}", std::strerror(errno));
  set(socket, SOL_SOCKET, SO_REUSEADDR, 1);
  const sockaddr_in address = any_address(port);
  if (::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(socket, 1024) != 0) {
    const int error = errno;
    ::close(socket);
    if (error == EADDRINUSE) {
      fail_input("port {} is taken on this machine; choose another MASTER_PORT", port);
    }
    fail_input("port {}: cannot listen: {}", port, std::strerror(error));
  }
  return socket;
}

int port_of(int listener) {
  sockaddr_in address = {};
  socklen_t size = sizeof address;
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

int accept_until(int listener, Deadline deadline) {
  for (;;) {
    const double left = deadline - clock_s();
    if (left <= 0) return -1;
    pollfd ready = {.fd = listener, .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, static_cast<int>(1e3 * left) + 1) != 1) continue;
    const int socket = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) continue;
    limit_waiting(socket, 5);
    return socket;
  }
}

std::string address_of_peer(int socket) {
  sockaddr_in address = {};
  socklen_t size = sizeof address;
  ::getpeername(socket, reinterpret_cast<sockaddr*>(&address), &size);
  char text[INET_ADDRSTRLEN] = "";
  ::inet_ntop(AF_INET, &address.sin_addr, text, sizeof text);
  return text;
}

int connect_until(const std::string& who, const std::string& host, int port, Deadline deadline) {
  addrinfo hints = {}, *found = nullptr;
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (code != 0) fail_input("{}: \"{}\" has no address: {}", who, host, ::gai_strerror(code));
  const sockaddr_in address = *reinterpret_cast<const sockaddr_in*>(found->ai_addr);
  ::freeaddrinfo(found);
  const double begin = clock_s();
  for (;;) {
    const int socket = try_connect(address, std::max(0.1, deadline - clock_s()));
    if (socket >= 0) {
      limit_waiting(socket, std::max(5.0, deadline - clock_s()));
      return socket;
    }
    const int error = errno;
    if (clock_s() >= deadline) {
      fail("{} cannot be reached at {}:{} ({}), tried for {:.0f} s", who, host, port,
           std::strerror(error), clock_s() - begin);
    }
    ::usleep(100'000);
  }
}

void send_block(int socket, const void* data, std::size_t bytes, const std::string& who) {
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t sent = ::send(socket, at, bytes, MSG_NOSIGNAL);
    if (sent <= 0) fail("{}: {}", who, std::strerror(errno));
    at += sent;
    bytes -= static_cast<std::size_t>(sent);
  }
}

void receive_block(int socket, void* data, std::size_t bytes, const std::string& who) {
  char* at = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t got = ::recv(socket, at, bytes, 0);
    if (got == 0) fail("{}: the connection was closed", who);
    if (got < 0) fail("{}: {}", who, errno == EAGAIN ? "no answer" : std::strerror(errno));
    at += got;
    bytes -= static_cast<std::size_t>(got);
  }
}

void send_text(int socket, const std::string& text, const std::string& who) {
  const auto bytes = static_cast<std::uint64_t>(text.size());
  send_block(socket, &bytes, sizeof bytes, who);
  send_block(socket, text.data(), text.size(), who);
}

std::string receive_text(int socket, const std::string& who) {
  std::uint64_t bytes = 0;
  receive_block(socket, &bytes, sizeof bytes, who);
  if (bytes > kLongestText) fail("{}: something else than imhotep answered", who);
  std::string text(bytes, '\0');
  receive_block(socket, text.data(), text.size(), who);
  return text;
}

void prepare_for_messages(int socket) {
  limit_waiting(socket, 0);
  set(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  set(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
  set(socket, IPPROTO_TCP, TCP_KEEPIDLE, 4);
  set(socket, IPPROTO_TCP, TCP_KEEPINTVL, 2);
  set(socket, IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, 10'000);
  ::fcntl(socket, F_SETFL, ::fcntl(socket, F_GETFL) | O_NONBLOCK);
}

}  // namespace imhotep::executor
