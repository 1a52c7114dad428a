#include "executor/serve/load_client.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>

#include "core/base/fail.h"

namespace imhotep::executor {
namespace {

using Clock = std::chrono::steady_clock;

double since_us(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

struct AddressDeleter {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};
using Address = std::unique_ptr<addrinfo, AddressDeleter>;

Address find_address(const LoadTarget& target) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const int failed = getaddrinfo(target.host.c_str(), target.port.c_str(), &hints, &list);
  if (failed != 0) fail("{}:{}: {}", target.host, target.port, gai_strerror(failed));
  return Address(list);
}

std::string head_of(const LoadTarget& target, const char* method, const std::string& path,
                    std::size_t bytes) {
  std::string head = fmt::format(
      "{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n"
      "Content-Length: {}\r\n",
      method, path, target.host, bytes);
  if (!target.key.empty()) head += fmt::format("Authorization: Bearer {}\r\n", target.key);
  return head + "\r\n";
}

// One request on its way. Events are found by their "data: " at a line's begin: sizes of chunks
// between them do no harm, because a line of JSON holds no line end.
class Open {
 public:
  Open(const addrinfo& address, std::string text, LoadResult& result)
      : out_(std::move(text)), result_(result) {
    socket_ = ::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int on = 1;
    ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (socket_ < 0 ||
        (::connect(socket_, address.ai_addr, address.ai_addrlen) != 0 && errno != EINPROGRESS)) {
      end(std::string("cannot connect: ") + std::strerror(errno));
    }
  }
  ~Open() {
    if (socket_ >= 0) ::close(socket_);
  }
  Open(const Open&) = delete;
  Open& operator=(const Open&) = delete;

  [[nodiscard]] pollfd wish() const {
    const short events = sent_ < out_.size() ? POLLIN | POLLOUT : POLLIN;
    return {.fd = socket_, .events = events, .revents = 0};
  }
  [[nodiscard]] bool done() const { return done_; }
  void end(const std::string& error) {
    done_ = true;
    result_.error = error;
  }

  void serve(short ready, double now) {
    if (done_) return;
    if ((ready & POLLOUT) != 0) write();
    if ((ready & (POLLIN | POLLHUP | POLLERR)) != 0) read(now);
  }

 private:
  void write() {
    const auto count = ::send(socket_, out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
    if (count > 0) {
      sent_ += static_cast<std::size_t>(count);
    } else if (count < 0 && errno != EAGAIN) {
      end(std::string("cannot send: ") + std::strerror(errno));
    }
  }

  void read(double now) {
    char block[16384];
    for (;;) {
      const auto count = ::recv(socket_, block, sizeof block, 0);
      if (count < 0 && errno == EAGAIN) return;
      if (count <= 0) {
        result_.end_us = now;
        end(whole_                ? ""
            : result_.status == 0 ? "no answer"
                                  : "the stream broke off: " + text_.substr(0, 300));
        return;
      }
      text_.append(block, static_cast<std::size_t>(count));
      take_lines(now);
      if (done_) return;
    }
  }

  void take_lines(double now) {
    for (std::size_t end_of_line = text_.find('\n'); end_of_line != std::string::npos;
         end_of_line = text_.find('\n')) {
      const std::string line = text_.substr(0, end_of_line);
      text_.erase(0, end_of_line + 1);
      if (result_.status == 0 && line.starts_with("HTTP/1.") && line.size() > 12) {
        result_.status = std::atoi(line.c_str() + 9);
      } else if (line == "data: [DONE]") {
        whole_ = true;
        result_.end_us = now;
        end("");
        return;
      } else if (line.starts_with("data: ") && line.find("\"choices\":[{") != std::string::npos) {
        if (result_.first_us < 0) result_.first_us = now;
        result_.tokens_us.push_back(now);
      }
    }
  }

  std::string out_, text_;
  LoadResult& result_;
  std::size_t sent_ = 0;
  int socket_ = -1;
  bool done_ = false, whole_ = false;
};

}  // namespace

std::vector<LoadResult> run_load(const LoadTarget& target, const std::vector<LoadRequest>& requests,
                                 const LoadOptions& options) {
  rlimit files = {};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  const Address address = find_address(target);
  std::vector<LoadResult> results(requests.size());
  std::vector<std::unique_ptr<Open>> open;
  std::vector<pollfd> ready;
  std::size_t next = 0;
  std::int64_t done = 0;
  const auto start = Clock::now();
  while (next < requests.size() || !open.empty()) {
    const double now = since_us(start);
    const auto may_begin = [&] {
      if (next == requests.size()) return false;
      if (options.concurrency > 0)
        return static_cast<std::int64_t>(open.size()) < options.concurrency;
      return requests[next].at_us <= now;
    };
    for (; may_begin(); ++next) {
      const std::string& body = requests[next].body;
      results[next].sent_us = since_us(start);
      open.push_back(std::make_unique<Open>(
          *address, head_of(target, "POST", "/v1/completions", body.size()) + body, results[next]));
    }
    double wait_us = 100e3;
    if (next < requests.size() && options.concurrency == 0) {
      wait_us = std::min(wait_us, requests[next].at_us - now);
    }
    ready.clear();
    for (const auto& one : open) ready.push_back(one->wish());
    timespec wait = {.tv_sec = 0, .tv_nsec = static_cast<long>(std::max(0.0, wait_us) * 1e3)};
    ::ppoll(ready.data(), ready.size(), &wait, nullptr);
    const double after = since_us(start);
    for (std::size_t i = 0; i < open.size(); ++i) {
      open[i]->serve(ready[i].revents, after);
      if (!open[i]->done() && after > options.limit_us) open[i]->end("not done in time");
    }
    const auto gone = std::erase_if(open, [](const auto& one) { return one->done(); });
    done += static_cast<std::int64_t>(gone);
    if (gone > 0 && options.progress) options.progress(done);
  }
  return results;
}

std::string http_fetch(const LoadTarget& target, const std::string& path) {
  const Address address = find_address(target);
  const int socket = ::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0 || ::connect(socket, address->ai_addr, address->ai_addrlen) != 0) {
    const int error = errno;
    if (socket >= 0) ::close(socket);
    fail("http://{}:{}: cannot connect: {}; is a server running there?", target.host, target.port,
         std::strerror(error));
  }
  std::string answer;
  const std::string text = head_of(target, "GET", path, 0);
  if (::send(socket, text.data(), text.size(), MSG_NOSIGNAL) > 0) {
    char block[16384];
    for (ssize_t count = 0; (count = ::recv(socket, block, sizeof block, 0)) > 0;) {
      answer.append(block, static_cast<std::size_t>(count));
    }
  }
  ::close(socket);
  const std::size_t body = answer.find("\r\n\r\n");
  if (body == std::string::npos || !answer.starts_with("HTTP/1.1 200")) {
    fail("http://{}:{}{}: expected an answer, got \"{}\"", target.host, target.port, path,
         answer.substr(0, answer.find('\r')));
  }
  return answer.substr(body + 4);
}

}  // namespace imhotep::executor
