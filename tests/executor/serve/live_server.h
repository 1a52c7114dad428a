#pragma once
// A whole server inside the test: engine, front end and a nano model, on a free port; and the
// plainest client there is.

#include <memory>
#include <string>
#include <thread>

#include "executor/serve/http_server.h"
#include "tests/executor/serve/serving.h"

namespace imhotep::test {

struct LiveOptions {
  executor::EngineOptions engine;
  std::int64_t max_body_bytes = 1 << 20;
  std::vector<std::string> keys;
  std::string chat_template;
  std::int64_t sequences = 8, kv_tokens = 8 * 32;
};

class LiveServer {
 public:
  explicit LiveServer(const LiveOptions& options = {});
  ~LiveServer();  // drains
  [[nodiscard]] int port() const { return server_->port(); }
  [[nodiscard]] executor::Engine& engine() { return *engine_; }
  [[nodiscard]] const executor::Metrics& metrics() const { return metrics_; }
  // Waits until no request runs or waits.
  void wait_until_idle() const;

 private:
  Plan plan_;
  executor::ServeShape shape_;
  std::unique_ptr<executor::Vocabulary> words_;
  executor::Bootstrap ranks_;
  executor::CommunicatorPool pool_{ranks_};
  executor::Metrics metrics_{{.model = "nano", .plan_hash = "0", .version = "test"}};
  std::unique_ptr<executor::Stepper> stepper_;
  std::unique_ptr<executor::Engine> engine_;
  std::unique_ptr<executor::HttpServer> server_;
  std::thread thread_;
};

// A TCP connection to this machine; closed when it goes.
class Line {
 public:
  explicit Line(int port);
  ~Line();
  Line(const Line&) = delete;
  Line& operator=(const Line&) = delete;
  void send(const std::string& text) const;
  void hang_up();  // at once, without the courtesy of TCP
  // Reads until `end` was seen, the server closes, or ten seconds passed.
  [[nodiscard]] std::string read_until(const std::string& end);
  // One answer by its Content-Length or its last chunk, head and body.
  [[nodiscard]] std::string read_answer();

 private:
  int socket_ = -1;
  std::string rest_;
};

[[nodiscard]] std::string http_post(const std::string& path, const std::string& body,
                                    const std::string& headers = {});
[[nodiscard]] std::string http_get(const std::string& path, const std::string& headers = {});
// Sends one request on a line of its own and reads the answer.
[[nodiscard]] std::string ask(int port, const std::string& request);
[[nodiscard]] int status_of(const std::string& answer);
[[nodiscard]] std::string body_of(const std::string& answer);

}  // namespace imhotep::test
