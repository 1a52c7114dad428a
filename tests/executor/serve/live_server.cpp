#include "tests/executor/serve/live_server.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <stdexcept>

namespace imhotep::test {

using namespace executor;

LiveServer::LiveServer(const LiveOptions& options)
    : plan_(speaking_plan("nano-pr-moe-2-8", options.sequences)),
      shape_(serve_shape(
          plan_, {.sequences = options.sequences, .chunk = 16, .kv_tokens = options.kv_tokens})),
      words_(make_byte_vocabulary(plan_.model.vocab, options.chat_template)) {
  shape_.max_context = std::min<std::int64_t>(shape_.max_context, 32);
  stepper_ = std::make_unique<Stepper>(plan_, Rank(0), pool_, shape_, 1);
  fill_weights(plan_, stepper_->runner());
  engine_ = std::make_unique<Engine>(plan_, shape_, *words_, options.engine, metrics_);
  HttpOptions http;
  http.port = 0;
  http.max_body_bytes = options.max_body_bytes;
  server_ = std::make_unique<HttpServer>(
      http,
      ServiceOptions{
          .model = "nano", .plan_text = plan_text(plan_), .keys = options.keys, .seed = 5},
      metrics_);
  server_->open(*engine_, *words_, plan_, shape_.max_context);
  thread_ = std::thread([this] { engine_->run(*stepper_, ranks_, [] { return false; }); });
  while (status_of(ask(port(), http_get("/health"))) != 200) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

LiveServer::~LiveServer() {
  engine_->drain();
  thread_.join();
  server_->finish(5);
}

void LiveServer::wait_until_idle() const {
  for (int tries = 0; tries < 2000; ++tries) {
    const bool idle = metrics_.read([](const Metrics::Values& v) {
      return v.running == 0 && v.waiting == 0 && v.pages_used == 0;
    });
    if (idle) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  throw std::runtime_error("the server is still busy after ten seconds");
}

Line::Line(int port) {
  socket_ = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  timeval limit = {.tv_sec = 10, .tv_usec = 0};
  ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    throw std::runtime_error("cannot connect");
  }
}

Line::~Line() {
  if (socket_ >= 0) ::close(socket_);
}

void Line::send(const std::string& text) const {
  for (std::size_t done = 0; done < text.size();) {
    const auto sent = ::send(socket_, text.data() + done, text.size() - done, MSG_NOSIGNAL);
    if (sent <= 0) return;
    done += static_cast<std::size_t>(sent);
  }
}

void Line::hang_up() {
  linger reset = {.l_onoff = 1, .l_linger = 0};
  ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  ::close(socket_);
  socket_ = -1;
}

std::string Line::read_until(const std::string& end) {
  char block[4096];
  std::size_t found = rest_.find(end);
  while (found == std::string::npos || end.empty()) {
    const auto got = ::recv(socket_, block, sizeof block, 0);
    if (got <= 0) return std::exchange(rest_, {});
    rest_.append(block, static_cast<std::size_t>(got));
    found = rest_.find(end);
  }
  std::string text = rest_.substr(0, found + end.size());
  rest_.erase(0, text.size());
  return text;
}

std::string Line::read_answer() {
  std::string head = read_until("\r\n\r\n");
  const std::string field = "Content-Length: ";
  const std::size_t at = head.find(field);
  if (head.find("Transfer-Encoding: chunked") != std::string::npos) {
    return head + read_until("\r\n0\r\n\r\n");
  }
  if (at == std::string::npos) return head;
  const auto length = std::stoul(head.substr(at + field.size()));
  char block[4096];
  while (rest_.size() < length) {
    const auto got = ::recv(socket_, block, sizeof block, 0);
    if (got <= 0) break;
    rest_.append(block, static_cast<std::size_t>(got));
  }
  head += rest_.substr(0, length);
  rest_.erase(0, length);
  return head;
}

std::string http_post(const std::string& path, const std::string& body,
                      const std::string& headers) {
  return fmt::format("POST {} HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n{}\r\n{}", path,
                     body.size(), headers, body);
}

std::string http_get(const std::string& path, const std::string& headers) {
  return fmt::format("GET {} HTTP/1.1\r\nHost: t\r\n{}\r\n", path, headers);
}

std::string ask(int port, const std::string& request) {
  Line line(port);
  line.send(request);
  return line.read_answer();
}

int status_of(const std::string& answer) {
  return answer.size() > 12 ? std::stoi(answer.substr(9, 3)) : 0;
}

std::string body_of(const std::string& answer) {
  const std::size_t at = answer.find("\r\n\r\n");
  return at == std::string::npos ? "" : answer.substr(at + 4);
}

}  // namespace imhotep::test
