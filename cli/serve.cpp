// imhotep serve: answers OpenAI clients on the ranks of a plan.

#include <chrono>
#include <cstdio>
#include <memory>
#include <utility>

#include "cli/commands.h"
#include "cli/local_gpu.h"
#include "cli/prediction.h"
#include "cli/progress.h"
#include "cli/ranks.h"
#include "cli/ranks_per_node.h"
#include "core/base/content_hash.h"
#include "core/base/fail.h"
#include "core/base/json_document.h"
#include "executor/comm/stop_signal.h"
#include "executor/serve/http_server.h"
#include "executor/train/saved_state.h"
#include "profiles/catalogue.h"

namespace imhotep::cli {
namespace {

struct Options {
  std::string run, plan, host = "127.0.0.1", name, chat_template, key_file, port_file, report;
  std::vector<std::string> keys;
  std::int64_t port = 8000, queue = 256, seed = 1;
  executor::ServeWishes wishes;
  std::int64_t body_bytes = std::int64_t{4} << 20, choices = 16, connections = 4096;
  std::optional<std::int64_t> ranks_per_node;
  std::optional<double> queue_limit, request_limit, drain_limit;
  bool random = false;
};

ModelSpec model_of(const Options& options) {
  return options.random ? profiles::find_model(options.run)
                        : executor::checkpoint_model(options.run);
}

constexpr std::int64_t kCpuSequences = 8, kGpuSequences = 64;
constexpr double kGpuShare = 0.95;  // of the free memory; libraries load code of their own later

// One rank with room for some sequences as long as the model allows, unless a plan says more.
Plan plan_of(const Options& options, const DeviceChoice& device) {
  if (!options.plan.empty()) return read_plan(options.plan);
  Workload workload;
  workload.kind = WorkloadKind::Generation;
  const ModelSpec model = model_of(options);
  workload.prompt = std::max(1, model.context / 2);
  workload.output = std::max(1, model.context - model.context / 2);
  Plan plan = single_rank_plan(model, workload);
  set_device(plan, device);
  const std::int64_t usual = plan.device == DeviceKind::Cuda ? kGpuSequences : kCpuSequences;
  plan.workload.global_batch = options.wishes.sequences > 0 ? options.wishes.sequences : usual;
  return plan;
}

// On a GPU without a plan the KV cache takes what the weights leave, if nobody says how much.
executor::ServeShape shape_of(const Options& options, const Plan& plan) {
  const executor::ServeShape shape = executor::serve_shape(plan, options.wishes);
  if (plan.device != DeviceKind::Cuda || plan.world > 1 || !options.plan.empty() ||
      options.wishes.kv_tokens > 0) {
    return shape;
  }
  const auto free = static_cast<double>(executor::free_device_memory_bytes());
  return executor::fit_pages(plan, shape, static_cast<std::int64_t>(kGpuShare * free));
}

// Graphs are captured and algorithms chosen before the first request comes.
void warm_up(const Plan& plan, executor::Stepper& stepper) {
  if (plan.device == DeviceKind::Cuda) stepper.warm_up();
}

std::vector<std::string> keys_of(const Options& options) {
  std::vector<std::string> keys = options.keys;
  if (options.key_file.empty()) return keys;
  const std::string text = read_text_file(options.key_file);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string key = text.substr(at, end - at);
    while (!key.empty() && std::isspace(static_cast<unsigned char>(key.back())) != 0)
      key.pop_back();
    if (!key.empty()) keys.push_back(key);
    at = end + 1;
  }
  if (keys.empty()) fail_input("{}: expected a key a line, got none", options.key_file);
  return keys;
}

std::unique_ptr<executor::Vocabulary> vocabulary_of(const Options& options, const Plan& plan) {
  if (!options.random) return executor::load_vocabulary(options.run, options.chat_template);
  return executor::make_byte_vocabulary(
      plan.model.vocab, options.chat_template.empty() ? "" : read_text_file(options.chat_template));
}

void fill_weights(const Options& options, const Plan& plan, const executor::Bootstrap& bootstrap,
                  executor::Runner& runner, bool tells) {
  if (!options.random) {
    Progress loading("loading", "bytes", tells);
    executor::load_weights(options.run, plan, bootstrap, runner,
                           [&](auto done, auto all) { loading.update(done, all); });
    return;
  }
  executor::initialize_weights(plan, runner, {.seed = static_cast<std::uint64_t>(options.seed)});
}

executor::EngineOptions engine_options(const Options& options) {
  executor::EngineOptions engine{.max_waiting = options.queue};
  if (options.queue_limit) engine.queue_limit_us = *options.queue_limit * 1e6;
  if (options.request_limit) engine.request_limit_us = *options.request_limit * 1e6;
  if (options.drain_limit) engine.drain_limit_us = *options.drain_limit * 1e6;
  return engine;
}

// A line every five seconds in which something was generated.
class StatusLine {
 public:
  StatusLine(const executor::Metrics& metrics, bool speaks) : metrics_(metrics), speaks_(speaks) {}

  void print() {
    const auto now = std::chrono::steady_clock::now();
    const std::chrono::duration<double> passed = now - last_;
    if (!speaks_ || passed.count() < 5) return;
    last_ = now;
    metrics_.read([&](const executor::Metrics::Values& v) {
      const std::int64_t tokens = v.output_tokens - std::exchange(tokens_, v.output_tokens);
      if (tokens == 0) return 0;
      fmt::print(stderr,
                 "imhotep: {} running, {} waiting, {:.1f} tokens/s, KV cache {:.0f} % full\n",
                 v.running, v.waiting, static_cast<double>(tokens) / passed.count(),
                 100.0 * static_cast<double>(v.pages_used) / static_cast<double>(v.pages));
      return 0;
    });
  }

 private:
  const executor::Metrics& metrics_;
  bool speaks_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
  std::int64_t tokens_ = 0;
};

// Rank 0: listens before anything is loaded, so that /health can say how things are.
int lead(const Options& options, const Plan& plan, const executor::Bootstrap& bootstrap,
         const Session& session) {
  const std::vector<std::string> keys = keys_of(options);
  const std::string name = options.name.empty() ? plan.model.name : options.name;
  executor::Metrics metrics({.model = name, .plan_hash = plan_hash(plan), .version = "0.1.0"});
  auto server = std::make_unique<executor::HttpServer>(
      executor::HttpOptions{.host = options.host,
                            .port = static_cast<int>(options.port),
                            .max_body_bytes = options.body_bytes,
                            .max_connections = options.connections},
      executor::ServiceOptions{.model = name,
                               .plan_text = plan_text(plan),
                               .keys = keys,
                               .max_choices = options.choices,
                               .seed = static_cast<std::uint64_t>(options.seed)},
      metrics);
  const bool local = options.host == "127.0.0.1" || options.host == "::1";
  if (!local && keys.empty()) {
    fmt::print(stderr, "imhotep: warning: {} is open to others and no --api-key guards it\n",
               options.host);
  }
  const auto vocabulary = vocabulary_of(options, plan);
  if (vocabulary->size() > plan.model.vocab) {
    fail_input("{}: the tokenizer has {} words, the model {}", options.run, vocabulary->size(),
               plan.model.vocab);
  }
  const executor::ServeShape shape = shape_of(options, plan);
  executor::CommunicatorPool pool(bootstrap);
  executor::Stepper stepper(plan, Rank(0), pool, shape,
                            (bootstrap.world() + bootstrap.nodes() - 1) / bootstrap.nodes());
  fill_weights(options, plan, bootstrap, stepper.runner(), !session.quiet);
  warm_up(plan, stepper);
  if (!options.report.empty()) stepper.measure();
  executor::Engine engine(plan, shape, *vocabulary, engine_options(options), metrics);
  server->open(engine, *vocabulary, plan, shape.max_context);
  if (!options.port_file.empty()) {
    write_text_file(options.port_file, std::to_string(server->port()) + "\n");
  }
  if (!session.quiet) {
    fmt::print(
        stderr,
        "imhotep: {} at http://{}:{}, {} {} {} rank{}, {} x {} sequences of up to {} tokens, "
        "{} KV tokens\n",
        name, options.host, server->port(), plan.world, name_of(plan.device), name_of(plan.dtype),
        plan.world == 1 ? "" : "s", plan.data, shape.sequences, shape.max_context,
        plan.data * shape.pages * plan.page_size);
  }
  StatusLine status(metrics, !session.quiet);
  try {
    engine.run(stepper, bootstrap, [&] {
      status.print();
      return executor::stop_signal() != 0;
    });
  } catch (...) {
    server->finish(2);  // clients hear why
    server.reset();
    throw;
  }
  server->finish(10);
  server.reset();  // before what it answers from
  if (!options.report.empty()) {
    save_report(stepper.report(), fmt::format("imhotep serve {}", options.run), options.report);
  }
  if (!session.quiet) fmt::print(stderr, "imhotep: all answers are given, goodbye\n");
  return 0;
}

int follow(const Options& options, const Plan& plan, const executor::Bootstrap& bootstrap) {
  executor::CommunicatorPool pool(bootstrap);
  const executor::ServeShape shape = shape_of(options, plan);
  executor::Stepper stepper(plan, Rank(bootstrap.rank()), pool, shape,
                            (bootstrap.world() + bootstrap.nodes() - 1) / bootstrap.nodes());
  fill_weights(options, plan, bootstrap, stepper.runner(), false);
  warm_up(plan, stepper);
  executor::Engine::follow(stepper, bootstrap);
  return 0;
}

}  // namespace

Run setup_serve(Arguments& arguments) {
  const auto options = std::make_shared<Options>();
  const auto device = std::make_shared<DeviceChoice>();
  executor::ServeWishes& wishes = options->wishes;
  arguments.required("RUN", options->run, "a run folder, a checkpoint, or a Hugging Face folder");
  arguments.text("--plan", options->plan, "a generation plan; else one rank");
  declare_device(arguments, device);
  arguments.output("--report", options->report,
                   "at the end, write what a decode step took, for compare");
  arguments.text("--host", options->host, "address to listen on (127.0.0.1)");
  arguments.integer("--port", options->port, "0: any free one (8000)", 0);
  arguments.output("--port-file", options->port_file, "write the port here once ready");
  arguments.text("--name", options->name, "the model's name for clients");
  arguments.texts("--api-key", options->keys, "a key that clients must show; may be repeated");
  arguments.text("--api-key-file", options->key_file, "keys, one a line");
  arguments.text("--chat-template", options->chat_template, "a Jinja file; else the checkpoint's");
  arguments.integer("--sequences", wishes.sequences, "at once, a data rank (the plan's)");
  arguments.integer("--chunk", wishes.chunk, "tokens of one step, a data rank (the plan's)");
  arguments.integer("--kv-tokens", wishes.kv_tokens, "of the KV cache, a data rank (the plan's)");
  arguments.integer("--max-context", wishes.max_context, "tokens of a request (the model's)");
  arguments.integer("--max-queue", options->queue, "waiting requests before 429 (256)", 0);
  arguments.integer("--max-body", options->body_bytes, "bytes of a request (4 Mi)");
  arguments.integer("--max-choices", options->choices, "answers to one request (16)");
  arguments.integer("--max-connections", options->connections, "clients at once (4096)");
  arguments.number("--queue-limit", options->queue_limit, "seconds a request may wait (60)");
  arguments.number("--request-limit", options->request_limit, "seconds a request may take (600)");
  arguments.number("--drain-limit", options->drain_limit, "seconds to finish after TERM (30)");
  arguments.integer("--seed", options->seed, "of draws without a seed", 0);
  declare_ranks_per_node(arguments, options->ranks_per_node);
  arguments.flag("--random-weights", options->random, "RUN is a model; for measurements");
  arguments.example("imhotep serve run/a --port 8000");
  return [options, device](const Session& session) {
    Plan plan = plan_of(*options, *device);
    draw_nodes(plan, options->ranks_per_node);
    executor::check_runnable(plan);
    static_cast<void>(executor::serve_shape(plan));
    if (options->port > 65535) fail_input("--port: expected at most 65535, got {}", options->port);
    if (executor::Bootstrap::launched() || plan.world == 1) executor::watch_stop_signals();
    return on_ranks(plan, [&](const executor::Bootstrap& bootstrap) {
      return bootstrap.rank() == 0 ? lead(*options, plan, bootstrap, session)
                                   : follow(*options, plan, bootstrap);
    });
  };
}

}  // namespace imhotep::cli
