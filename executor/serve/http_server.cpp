#include "executor/serve/http_server.h"

#include <sys/resource.h>
#include <sys/socket.h>

#include <cctype>
#include <deque>
#include <map>
#include <thread>
#include <utility>
// Boost 1.74 needs <utility> before its own headers.
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>

#include "core/base/content_hash.h"
#include "core/base/fail.h"

namespace imhotep::executor {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;
template <class T>
using Task = asio::awaitable<T, asio::io_context::executor_type>;
using Stream = beast::basic_stream<tcp, asio::io_context::executor_type>;
using Timer = asio::basic_waitable_timer<std::chrono::steady_clock,
                                         asio::wait_traits<std::chrono::steady_clock>,
                                         asio::io_context::executor_type>;
using Token = asio::use_awaitable_t<asio::io_context::executor_type>;
constexpr Token kAwait;

constexpr std::size_t kHeaderBytes = 16 << 10;

std::chrono::milliseconds seconds(double value) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(value * 1000));
}

// A completion whose events arrive while its connection writes.
struct Live {
  Live(std::unique_ptr<Job> of, asio::io_context::executor_type executor)
      : job(std::move(of)), wake(executor) {}
  std::unique_ptr<Job> job;
  std::deque<std::pair<std::size_t, ServeEvent>> events;  // choice, news
  Timer wake;
  bool gone = false, watching = false;
};

// As many files as the system lets this process have: a connection is one.
void raise_file_limit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// What clients may choose themselves: printable and short.
std::string clean_id(beast::string_view text) {
  std::string id;
  for (const char c : text.substr(0, 128)) {
    if (std::isgraph(static_cast<unsigned char>(c)) != 0) id += c;
  }
  return id;
}

}  // namespace

struct HttpServer::State {
  State(const HttpOptions& wanted, ServiceOptions service_options, Metrics& metrics)
      : options(wanted), service(std::move(service_options), metrics), acceptor(io) {}

  HttpOptions options;
  Service service;
  asio::io_context io{1};
  asio::basic_socket_acceptor<tcp, asio::io_context::executor_type> acceptor;
  std::map<schedule::RequestId, std::pair<std::shared_ptr<Live>, std::size_t>> live;
  std::int64_t connections = 0;
  std::atomic<std::int64_t> answering = 0;
  std::uint64_t anonymous = 0;
  std::thread thread;

  void listen();
  Task<void> accept();
  Task<void> converse(std::shared_ptr<Stream> stream);
  Task<bool> answer(std::shared_ptr<Stream> stream, http::request<http::string_body> request,
                    std::uint64_t peer);
  Task<bool> complete(std::shared_ptr<Stream> stream, std::shared_ptr<Live> live_job,
                      std::string id, unsigned version, bool keep);
  Task<bool> write_events(std::shared_ptr<Stream> stream, std::shared_ptr<Live> live_job,
                          std::string id, unsigned version, bool keep);
  Task<void> watch(std::shared_ptr<Stream> stream, std::shared_ptr<Live> live_job);
  Task<bool> send(std::shared_ptr<Stream> stream, HttpAnswer body, std::string id, unsigned version,
                  bool keep);
  void deliver(std::vector<ServeEvent> events);
};

void HttpServer::State::listen() {
  error_code error;
  const auto address = asio::ip::make_address(options.host, error);
  if (error) fail_input("--host {}: expected an address such as 127.0.0.1", options.host);
  const tcp::endpoint endpoint(address, static_cast<unsigned short>(options.port));
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    fail_input("cannot listen on {} port {}: {}", options.host, options.port, error.message());
  }
}

Task<void> HttpServer::State::accept() {
  for (;;) {
    error_code error;
    auto socket = co_await acceptor.async_accept(asio::redirect_error(kAwait, error));
    if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor) co_return;
    if (error) {  // out of files: wait for somebody to leave
      Timer pause(io.get_executor());
      pause.expires_after(std::chrono::milliseconds(100));
      co_await pause.async_wait(asio::redirect_error(kAwait, error));
      continue;
    }
    if (connections >= options.max_connections) continue;  // closes it
    socket.set_option(tcp::no_delay(true), error);
    ++connections;
    auto stream = std::make_shared<Stream>(std::move(socket));
    asio::co_spawn(io.get_executor(), converse(stream), asio::detached);
  }
}

Task<void> HttpServer::State::converse(std::shared_ptr<Stream> stream) {
  error_code error;
  const auto endpoint = stream->socket().remote_endpoint(error);
  const std::uint64_t peer = error ? 0 : fnv1a(endpoint.address().to_string());
  beast::flat_buffer buffer;
  for (bool keep = true; keep;) {
    http::request_parser<http::string_body> parser;
    parser.header_limit(kHeaderBytes);
    parser.body_limit(static_cast<std::uint64_t>(options.max_body_bytes));
    stream->expires_after(seconds(options.idle_limit_s));
    co_await http::async_read_header(*stream, buffer, parser, asio::redirect_error(kAwait, error));
    stream->expires_after(seconds(options.read_limit_s));
    if (!error && beast::iequals(parser.get()[http::field::expect], "100-continue")) {
      const std::string go = "HTTP/1.1 100 Continue\r\n\r\n";
      co_await asio::async_write(*stream, asio::buffer(go), asio::redirect_error(kAwait, error));
    }
    if (!error) {
      co_await http::async_read(*stream, buffer, parser, asio::redirect_error(kAwait, error));
    }
    if (error) {
      const bool spoke =
          error.category() == http::make_error_code(http::error::end_of_stream).category() &&
          error != http::error::end_of_stream && error != http::error::partial_message;
      if (spoke) {
        const bool large = error == http::error::body_limit || error == http::error::header_limit;
        const ApiError refused = large ? ApiError(413, "the request is too large")
                                       : ApiError(400, "not an HTTP request: " + error.message());
        HttpAnswer text = service.refusal(refused);
        co_await send(stream, std::move(text), "", 11, false);
      }
      break;
    }
    ++answering;
    keep = co_await answer(stream, parser.release(), peer);
    --answering;
  }
  // What the client still sends is read for a moment: closing at once could take back the answer.
  stream->socket().shutdown(tcp::socket::shutdown_send, error);
  stream->expires_after(std::chrono::seconds(2));
  char rest[4096];
  for (std::size_t total = 0; !error && total < (std::size_t{8} << 20);) {
    total +=
        co_await stream->async_read_some(asio::buffer(rest), asio::redirect_error(kAwait, error));
  }
  stream->close();
  --connections;
}

Task<bool> HttpServer::State::answer(std::shared_ptr<Stream> stream,
                                     http::request<http::string_body> request, std::uint64_t peer) {
  HttpQuestion question;
  question.method = std::string(request.method_string());
  question.path = std::string(request.target());
  question.body = std::move(request.body());
  question.authorization = std::string(request[http::field::authorization]);
  question.request_id = clean_id(request["X-Request-ID"]);
  question.peer = peer;
  std::string id = question.request_id;
  if (id.empty()) id = fmt::format("req-{:x}", ++anonymous);
  const unsigned version = request.version();
  const bool keep = request.keep_alive();
  auto handled = service.handle(question);
  if (auto* simple = std::get_if<HttpAnswer>(&handled)) {
    HttpAnswer text = std::move(*simple);
    co_return co_await send(stream, std::move(text), id, version, keep);
  }
  auto live_job = std::make_shared<Live>(std::move(std::get<1>(handled)), io.get_executor());
  Job& job = *live_job->job;
  for (std::size_t i = 0; i < job.size(); ++i) live[job.first_id + i] = {live_job, i};
  bool kept = false;
  if (auto refused = service.start(job)) {
    HttpAnswer text = std::move(*refused);
    kept = co_await send(stream, std::move(text), id, version, keep);
  } else {
    kept = co_await complete(stream, live_job, id, version, keep);
    if (!job.answer.done()) service.cancel(job);
  }
  for (std::size_t i = 0; i < job.size(); ++i) live.erase(job.first_id + i);
  co_return kept;
}

// Writes the answer as it comes; whether the connection can go on.
Task<bool> HttpServer::State::complete(std::shared_ptr<Stream> stream,
                                       std::shared_ptr<Live> live_job, std::string id,
                                       unsigned version, bool keep) {
  stream->expires_never();
  live_job->watching = true;
  asio::co_spawn(io.get_executor(), watch(stream, live_job), asio::detached);
  const bool written = co_await write_events(stream, live_job, id, version, keep);
  error_code error;
  // The watcher's wait is the only operation left.
  while (live_job->watching) {
    stream->socket().cancel(error);
    live_job->wake.expires_at(std::chrono::steady_clock::time_point::max());
    co_await live_job->wake.async_wait(asio::redirect_error(kAwait, error));
  }
  co_return written;
}

Task<bool> HttpServer::State::write_events(std::shared_ptr<Stream> stream,
                                           std::shared_ptr<Live> live_job, std::string id,
                                           unsigned version, bool keep) {
  ApiAnswer& text = live_job->job->answer;
  const bool chunked = version >= 11;
  bool headed = false;
  error_code error;
  while (!text.done() && !text.failed()) {
    if (live_job->gone) co_return false;
    if (live_job->events.empty()) {
      live_job->wake.expires_at(std::chrono::steady_clock::time_point::max());
      co_await live_job->wake.async_wait(asio::redirect_error(kAwait, error));
      continue;
    }
    const auto [choice, event] = std::move(live_job->events.front());
    live_job->events.pop_front();
    const std::vector<std::string> payloads = text.add(choice, event);
    if (text.failed() && !headed) break;
    for (const std::string& payload : payloads) {
      stream->expires_after(seconds(options.write_limit_s));
      if (!headed) {
        http::response<http::empty_body> head{http::status::ok, version};
        head.set(http::field::content_type, "text/event-stream; charset=utf-8");
        head.set(http::field::cache_control, "no-cache");
        head.set("X-Request-ID", id);
        head.chunked(chunked);
        head.keep_alive(keep && chunked);
        http::response_serializer<http::empty_body> serializer(head);
        co_await http::async_write_header(*stream, serializer, asio::redirect_error(kAwait, error));
        if (error) co_return false;
        headed = true;
      }
      const std::string line = "data: " + payload + "\n\n";
      if (chunked) {
        const auto piece = http::make_chunk(asio::buffer(line));
        co_await asio::async_write(*stream, piece, asio::redirect_error(kAwait, error));
      } else {
        co_await asio::async_write(*stream, asio::buffer(line),
                                   asio::redirect_error(kAwait, error));
      }
      if (error) co_return false;
    }
    stream->expires_never();
  }
  if (!headed) {
    HttpAnswer whole =
        text.failed() ? service.refusal(text.error()) : HttpAnswer{.body = text.body()};
    co_return co_await send(stream, std::move(whole), id, version, keep);
  }
  if (!chunked || text.failed()) co_return false;
  stream->expires_after(seconds(options.write_limit_s));
  const auto last = http::make_chunk_last();
  co_await asio::async_write(*stream, last, asio::redirect_error(kAwait, error));
  co_return !error && keep;
}

// Notes when the client leaves. A client that already sends its next request is still there.
Task<void> HttpServer::State::watch(std::shared_ptr<Stream> stream,
                                    std::shared_ptr<Live> live_job) {
  error_code error;
  co_await stream->socket().async_wait(tcp::socket::wait_read, asio::redirect_error(kAwait, error));
  if (error != asio::error::operation_aborted) {
    char byte = 0;
    const auto got = ::recv(stream->socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (error || got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK)) {
      live_job->gone = true;
    }
  }
  live_job->watching = false;
  live_job->wake.cancel();
}

Task<bool> HttpServer::State::send(std::shared_ptr<Stream> stream, HttpAnswer body, std::string id,
                                   unsigned version, bool keep) {
  http::response<http::string_body> response{static_cast<http::status>(body.status), version};
  response.set(http::field::content_type, body.content_type);
  if (!id.empty()) response.set("X-Request-ID", id);
  if (body.retry_after_s > 0) {
    response.set(http::field::retry_after, std::to_string(body.retry_after_s));
  }
  if (body.status == 401) response.set(http::field::www_authenticate, "Bearer");
  response.keep_alive(keep);
  response.body() = std::move(body.body);
  response.prepare_payload();
  stream->expires_after(seconds(options.write_limit_s));
  error_code error;
  co_await http::async_write(*stream, response, asio::redirect_error(kAwait, error));
  co_return !error && keep;
}

void HttpServer::State::deliver(std::vector<ServeEvent> events) {
  for (ServeEvent& event : events) {
    const auto entry = live.find(event.id);
    if (entry == live.end()) continue;
    const auto& [live_job, choice] = entry->second;
    live_job->events.emplace_back(choice, std::move(event));
    live_job->wake.cancel();
  }
}

HttpServer::HttpServer(const HttpOptions& options, ServiceOptions service, Metrics& metrics)
    : state_(std::make_unique<State>(options, std::move(service), metrics)) {
  raise_file_limit();
  state_->listen();
  asio::co_spawn(state_->io.get_executor(), state_->accept(), asio::detached);
  state_->thread = std::thread([state = state_.get()] { state->io.run(); });
}

HttpServer::~HttpServer() {
  state_->io.stop();
  state_->thread.join();
}

int HttpServer::port() const {
  error_code error;
  return state_->acceptor.local_endpoint(error).port();
}

void HttpServer::open(Engine& engine, const Vocabulary& vocabulary, const Plan& plan,
                      std::int64_t max_context) {
  State* state = state_.get();
  engine.on_events = [state](std::vector<ServeEvent> events) {
    asio::post(state->io,
               [state, news = std::move(events)]() mutable { state->deliver(std::move(news)); });
  };
  // On the front end's own thread, where the service is asked.
  asio::post(state->io, [state, &engine, &vocabulary, &plan, max_context] {
    state->service.open(engine, vocabulary, plan, max_context);
  });
}

void HttpServer::finish(double limit_s) {
  State* state = state_.get();
  asio::post(state->io, [state] {
    error_code error;
    state->acceptor.close(error);
  });
  const auto end = std::chrono::steady_clock::now() + seconds(limit_s);
  while (state->answering > 0 && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

}  // namespace imhotep::executor
