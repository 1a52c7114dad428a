// imhotep calibrate: measures this machine and writes its profile.
//
// One rank alone first, then as many ranks as asked for at the same time: their kernels tell what
// busy neighbours cost, and their collectives are timed. The second part runs in ranks that this
// command starts; they leave their tables in a file named by the environment. One GPU is
// measured alone, others of its kind are taken to be like it; ranks on several time collectives.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <set>

#include "cli/calibration_file.h"
#include "cli/commands.h"
#include "cli/local_gpu.h"
#include "cli/progress.h"
#include "cli/ranks.h"
#include "cli/refit.h"
#include "cli/signals.h"
#include "core/base/clock.h"
#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "core/base/units.h"
#include "executor/calibrate/calibrate.h"
#include "executor/calibrate/machine_rates.h"
#include "executor/calibrate/samples.h"
#include "executor/comm/launch.h"
#include "profiles/catalogue.h"
#include "profiles/merge.h"

namespace imhotep::cli {
namespace {

constexpr const char* kPartVariable = "IMHOTEP_CALIBRATION_PART";
constexpr double kUsualGpuMinutes = 5;

struct Options {
  std::string model, output, profile, device = "auto";
  std::vector<std::string> reports;  // learn from these instead of measuring
  std::optional<std::int64_t> ranks;
  std::optional<double> minutes;
  std::int64_t sequence = 256, batch = 8, repeats = 4;
  bool fast = false, resume = false;
  bool gpu = false;  // what `device` came to
};

double budget_s(const Options& options, double share) {
  return 60 * share * options.minutes.value_or(options.gpu ? kUsualGpuMinutes : 0);
}

std::vector<Plan> probes_of(const Options& options) {
  std::vector<Plan> probes =
      options.gpu ? executor::device_probes(options.fast) : executor::default_probes(options.fast);
  if (options.model.empty()) return probes;
  const ModelSpec model = profiles::find_model(options.model);
  const std::int64_t sequence = std::min<std::int64_t>(options.sequence, model.context);
  std::vector<Plan> own = executor::model_probes(model, sequence, options.batch);
  for (Plan& plan : own) {
    if (!options.gpu) continue;
    plan.device = DeviceKind::Cuda;
    plan.dtype = Dtype::Bf16;
    plan.prefill_chunk = usual_prefill_chunk(DeviceKind::Cuda);
  }
  probes.insert(probes.begin(), own.begin(), own.end());  // whoever names a model wants it most
  return probes;
}

// Busy ranks are stopped by their launcher; whoever measures alone stops here, between probes.
void keep(const CalibrationFile& file, const profiles::Profile& so_far, int world) {
  file.keep(so_far);
  if (world > 1 || signal_exit_code() == 0) return;
  fail("stopped after {}; {} has them, and --resume goes on from there",
       format_items(static_cast<std::int64_t>(file.whole(so_far).probes.size()), "probe"),
       file.partial());
}

// Measures what `file` does not know yet, into it. Collective.
profiles::Profile measure(const executor::Bootstrap& bootstrap, const Options& options,
                          const Session& session, const CalibrationFile& file, double budget) {
  // What busy neighbours cost is a question of processors: GPUs share no memory.
  std::vector<Plan> probes;
  if (!options.gpu || bootstrap.world() == 1) probes = probes_of(options);
  const std::string title = options.gpu             ? "one GPU"
                            : bootstrap.world() > 1 ? "busy ranks"
                                                    : "one rank";
  Progress progress(title, "probes", !session.quiet && bootstrap.rank() == 0);
  executor::CommunicatorPool pool(bootstrap);
  return executor::calibrate(
      bootstrap, pool,
      {.probes = std::move(probes),
       .repeats = options.repeats,
       .gpu = options.gpu,
       .budget_s = budget,
       .known = file.known(),
       .progress = [&](std::int64_t done, std::int64_t total) { progress.update(done, total); },
       .keep = [&](const profiles::Profile& so_far) { keep(file, so_far, bootstrap.world()); }});
}

profiles::Profile frame_of(const ClusterSpec& cluster, const std::string& method) {
  profiles::Profile frame;
  frame.name = cluster.name;
  frame.device = cluster.device;
  frame.machine = machine_text();
  frame.method = method;
  frame.versions = executor::library_versions();
  return frame;
}

std::string output_of(const Options& options, const ClusterSpec& cluster) {
  return options.output.empty() ? profiles::user_profile_folder() + "/" + cluster.name + ".json"
                                : options.output;
}

ClusterSpec cluster_of(const Options& options) {
  return find_cluster(options.gpu ? kLocalGpu : "local");
}

int measure_part(const Options& options, const Session& session, const std::string& part) {
  return on_ranks(2, [&](const executor::Bootstrap& bootstrap) {
    const CalibrationFile file(part, frame_of(cluster_of(options), "busy ranks"), options.resume);
    const auto measured = measure(bootstrap, options, session, file, budget_s(options, 0.5));
    if (bootstrap.rank() == 0) file.finish(measured);
    return 0;
  });
}

std::vector<std::string> child_arguments(const Options& options, const Session& session) {
  std::vector<std::string> words = {"calibrate",
                                    "--device",
                                    options.gpu ? "cuda" : "cpu",
                                    "--sequence",
                                    std::to_string(options.sequence),
                                    "--batch",
                                    std::to_string(options.batch),
                                    "--repeats",
                                    std::to_string(options.repeats)};
  if (!options.model.empty()) words.insert(words.end(), {"--model", options.model});
  if (options.minutes) {
    words.insert(words.end(), {"--minutes", fmt::format("{}", *options.minutes)});
  }
  if (options.fast) words.emplace_back("--fast");
  if (options.resume) words.emplace_back("--resume");
  if (session.quiet) words.emplace_back("--quiet");
  return words;
}

// Ranks that this command starts leave their tables in a file beside the profile, which an
// interruption leaves there too. Its probes are known under the number of ranks.
profiles::Profile measure_busy(int ranks, const Options& options, const Session& session,
                               const CalibrationFile& file) {
  const std::string prefix = fmt::format("{} ranks: ", ranks);
  const std::string part = fmt::format("{}.{}-ranks", file.file(), ranks);
  std::error_code ignored;
  if (options.resume) {
    profiles::Profile known = frame_of(cluster_of(options), "busy ranks");
    known.date = utc_now();
    for (const std::string& probe : file.known()) {
      if (probe.starts_with(prefix)) known.probes.push_back(probe.substr(prefix.size()));
    }
    profiles::write_profile(known, part);
  } else {
    std::filesystem::remove(part + ".partial", ignored);
  }
  const int code =
      executor::launch_ranks(ranks, child_arguments(options, session),
                             {.environment = {fmt::format("{}={}", kPartVariable, part)}});
  if (code != 0) fail("measuring with {} ranks ended with exit code {}", ranks, code);
  profiles::Profile busy = profiles::read_profile(part);
  std::filesystem::remove(part, ignored);
  for (std::string& probe : busy.probes) probe.insert(0, prefix);
  for (std::string& note : busy.notes) note.insert(0, prefix);
  std::erase_if(busy.probes, [&](const std::string& probe) {
    return std::find(file.known().begin(), file.known().end(), probe) != file.known().end();
  });
  return busy;
}

void print_summary(const profiles::Profile& profile, const std::string& file,
                   const executor::MachineRates& rates, const Session& session) {
  std::size_t points = 0, noisy = 0, sizes = 0;
  std::set<std::string> families;
  for (const profiles::Table& table : profile.tables) {
    families.insert(table.family);
    points += table.points.size();
    for (const profiles::Point& point : table.points) {
      noisy += point.spread > executor::kNoisySpread ? 1 : 0;
    }
  }
  for (const auto& table : profile.collectives) sizes += table.points.size();
  if (session.json) {
    const Json json = {{"profile", file},
                       {"hash", profile.hash},
                       {"families", families.size()},
                       {"points", points},
                       {"noisy_points", noisy},
                       {"collective_points", sizes},
                       {"probes", profile.probes.size()},
                       {"notes", profile.notes},
                       {"gemm_gflops", rates.gemm_flops_per_us / 1e3},
                       {"read_gb_per_s", rates.read_bytes_per_us / 1e3}};
    fmt::print("{}\n", json.dump(2));
    return;
  }
  fmt::print("{}: GEMM {:.0f} GFLOP/s, memory read {:.1f} GB/s a {}\n", profile.machine,
             rates.gemm_flops_per_us / 1e3, rates.read_bytes_per_us / 1e3,
             profile.device.kind == DeviceKind::Cuda ? "GPU" : "core");
  fmt::print("{} points of {} kernel families ({} with a spread over 25 %), {} of collectives\n",
             points, families.size(), noisy, sizes);
  for (const std::string& note : profile.notes) fmt::print("  {}\n", note);
  fmt::print("profile {}\n", file);
}

int calibrate_gpu(const Options& options, const Session& session) {
  const ClusterSpec local = find_cluster(kLocalGpu);
  const executor::DeviceRates rates = executor::measure_device_rates();
  profiles::Profile frame = frame_of(
      local, fmt::format("imhotep calibrate: operations between events of CUDA graphs (training: "
                         "of streams) of whole steps of probe models, without what the events "
                         "cost, bf16, median of {} walks, one GPU",
                         options.repeats));
  frame.device.bf16_flops_per_us = rates.bf16_flops_per_us;
  frame.device.fp32_flops_per_us = rates.fp32_flops_per_us;
  frame.device.memory_bytes_per_us = rates.read_bytes_per_us;
  frame.machine = fmt::format("{}, {}", local.device.name, frame.machine);
  const CalibrationFile file(output_of(options, local), std::move(frame), options.resume);
  const int ranks = static_cast<int>(options.ranks.value_or(local.devices()));
  profiles::Profile measured;
  {
    const executor::Bootstrap alone;
    measured = measure(alone, options, session, file, budget_s(options, 1));
  }
  if (ranks > 1) {
    file.keep(measured);
    try {
      measured.collectives = measure_busy(ranks, options, session, file).collectives;
    } catch (const Error& error) {  // kernels of one GPU are worth keeping by themselves
      measured.notes.push_back(fmt::format("no collectives of {} GPUs: {}", ranks, error.what()));
    }
  }
  const profiles::Profile profile = file.finish(measured);
  print_summary(
      profile, file.file(),
      {.gemm_flops_per_us = rates.bf16_flops_per_us, .read_bytes_per_us = rates.read_bytes_per_us},
      session);
  return 0;
}

int calibrate(const Options& options, const Session& session) {
  const ClusterSpec local = find_cluster("local");
  const int ranks = static_cast<int>(options.ranks.value_or(local.devices()));
  const executor::MachineRates rates = executor::measure_machine_rates();
  profiles::Profile frame = frame_of(
      local, fmt::format("imhotep calibrate: operations timed inside whole steps of probe models, "
                         "median of {} walks, one rank alone and {} at once; collectives alone",
                         options.repeats, ranks));
  frame.device.fp32_flops_per_us = rates.gemm_flops_per_us;
  frame.device.memory_bytes_per_us = rates.read_bytes_per_us;
  const CalibrationFile file(output_of(options, local), std::move(frame), options.resume);
  profiles::Profile measured;
  {
    const executor::Bootstrap alone;
    measured = measure(alone, options, session, file, budget_s(options, ranks > 1 ? 0.5 : 1));
  }
  if (ranks > 1) {
    file.keep(measured);
    const profiles::Profile busy = measure_busy(ranks, options, session, file);
    profiles::merge_tables(measured.tables, busy.tables);
    measured.collectives = busy.collectives;
    measured.probes.insert(measured.probes.end(), busy.probes.begin(), busy.probes.end());
    measured.notes.insert(measured.notes.end(), busy.notes.begin(), busy.notes.end());
  }
  const profiles::Profile profile = file.finish(measured);
  print_summary(profile, file.file(), rates, session);
  return 0;
}

}  // namespace

Run setup_calibrate(Arguments& arguments) {
  const auto options = std::make_shared<Options>();
  arguments.text("--model", options->model, "measure the shapes of this model too");
  arguments.integer("--sequence", options->sequence, "tokens of its sequences");
  arguments.integer("--batch", options->batch, "its sequences at once, at most");
  arguments.integer("--ranks", options->ranks, "busy ranks (one a core; GPUs: collectives of all)");
  arguments.integer("--repeats", options->repeats, "walks of every probe");
  arguments.number("--minutes", options->minutes,
                   "no probe begins that would end later (a GPU: 5; a CPU: no limit)");
  arguments.flag("--resume", options->resume, "go on with the file of an earlier or ended run");
  arguments.texts("--from", options->reports,
                  "learn from report.json of real runs instead of measuring");
  arguments.text("--profile", options->profile, "with --from: the file to start from");
  arguments.flag("--fast", options->fast, "fewer probes");
  arguments.one_of("--device", {"auto", "cpu", "cuda"}, "auto takes a GPU where there is one",
                   [options](const std::string& text) { options->device = text; });
  arguments.output("-o,--out", options->output, "profile to write (the user's folder)");
  arguments.example("imhotep calibrate");
  arguments.example("imhotep calibrate --model tiny-pr-moe-4-8 --fast");
  arguments.example("imhotep calibrate --from run/*/report.json");
  arguments.example("imhotep calibrate --device cuda --minutes 2 -o h200.json");
  return [options](const Session& session) {
    if (options->minutes && !(*options->minutes > 0)) {
      fail_input("--minutes: expected a number above 0, got {}", *options->minutes);
    }
    if (!options->reports.empty()) {
      return calibrate_from(options->reports, options->profile, options->output, session);
    }
    if (!options->profile.empty()) fail_input("--profile says where to start with --from");
    std::string why;
    const bool gpu = options->device != "cpu" && detect_local_gpus(&why).has_value();
    if (options->device == "cuda" && !gpu) fail_missing("no GPU can be used here: {}", why);
    options->gpu = gpu;
    const char* part = std::getenv(kPartVariable);
    if (part != nullptr && executor::Bootstrap::launched()) {
      return measure_part(*options, session, part);
    }
    return gpu ? calibrate_gpu(*options, session) : calibrate(*options, session);
  };
}

}  // namespace imhotep::cli
