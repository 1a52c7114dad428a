// imhotep calibrate: measures this machine and writes its profile.
//
// One rank alone first, then as many ranks as asked for at the same time: their kernels tell what
// busy neighbours cost, and their collectives are timed. The second part runs in ranks that this
// command starts; they leave their tables in a file named by the environment.

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <set>

#include "cli/commands.h"
#include "cli/local_gpu.h"
#include "cli/progress.h"
#include "cli/ranks.h"
#include "core/base/clock.h"
#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "core/base/units.h"
#include "executor/calibrate/calibrate.h"
#include "executor/calibrate/machine_rates.h"
#include "executor/comm/launch.h"
#include "profiles/catalogue.h"

namespace imhotep::cli {
namespace {

constexpr const char* kPartVariable = "IMHOTEP_CALIBRATION_PART";

struct Options {
  std::string model, output, device = "auto";
  std::optional<std::int64_t> ranks;
  std::int64_t sequence = 256, batch = 8, repeats = 4;
  bool fast = false;
  bool gpu = false;  // what `device` came to
};

executor::CalibrationOptions calibration_options(const Options& options, Progress& progress) {
  executor::CalibrationOptions calibration;
  calibration.repeats = options.repeats;
  calibration.probes =
      options.gpu ? executor::device_probes(options.fast) : executor::default_probes(options.fast);
  if (!options.model.empty()) {
    const ModelSpec model = profiles::find_model(options.model);
    const std::int64_t sequence = std::min<std::int64_t>(options.sequence, model.context);
    for (Plan& plan : executor::model_probes(model, sequence, options.batch)) {
      if (options.gpu) {
        plan.device = DeviceKind::Cuda;
        plan.dtype = Dtype::Bf16;
      }
      calibration.probes.push_back(std::move(plan));
    }
  }
  calibration.progress = [&progress](std::int64_t done, std::int64_t total) {
    progress.update(done, total);
  };
  return calibration;
}

profiles::Profile measure(const executor::Bootstrap& bootstrap, const Options& options,
                          const Session& session, const char* title) {
  Progress progress(title, "probes", !session.quiet && bootstrap.rank() == 0);
  executor::CommunicatorPool pool(bootstrap);
  return executor::calibrate(bootstrap, pool, calibration_options(options, progress));
}

int measure_part(const Options& options, const Session& session, const std::string& file) {
  return on_ranks(2, [&](const executor::Bootstrap& bootstrap) {
    profiles::Profile part = measure(bootstrap, options, session, "busy ranks");
    part.device = find_cluster("local").device;
    if (bootstrap.rank() == 0) profiles::write_profile(part, file);
    return 0;
  });
}

profiles::Profile measure_busy(int ranks, const std::vector<std::string>& arguments) {
  const auto file =
      std::filesystem::temp_directory_path() / fmt::format("imhotep-calibration-{}.json", getpid());
  const int code = executor::launch_ranks(
      ranks, arguments, {.environment = {fmt::format("{}={}", kPartVariable, file.string())}});
  if (code != 0) fail("measuring with {} ranks ended with exit code {}", ranks, code);
  profiles::Profile part = profiles::read_profile(file.string());
  std::filesystem::remove(file);
  return part;
}

void print_summary(const profiles::Profile& profile, const std::string& file,
                   const executor::MachineRates& rates, const Session& session) {
  std::size_t points = 0, noisy = 0, sizes = 0;
  std::set<std::string> families;
  for (const profiles::Table& table : profile.tables) {
    families.insert(table.family);
    points += table.points.size();
    for (const profiles::Point& point : table.points) noisy += point.spread > 0.25 ? 1 : 0;
  }
  for (const auto& table : profile.collectives) sizes += table.points.size();
  if (session.json) {
    const Json json = {{"profile", file},
                       {"hash", profile.hash},
                       {"families", families.size()},
                       {"points", points},
                       {"noisy_points", noisy},
                       {"collective_points", sizes},
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
  fmt::print("profile {}\n", file);
}

std::vector<std::string> child_arguments(const Options& options, const Session& session) {
  std::vector<std::string> words = {"calibrate",
                                    "--device",
                                    "cpu",
                                    "--sequence",
                                    std::to_string(options.sequence),
                                    "--batch",
                                    std::to_string(options.batch),
                                    "--repeats",
                                    std::to_string(options.repeats)};
  if (!options.model.empty()) words.insert(words.end(), {"--model", options.model});
  if (options.fast) words.emplace_back("--fast");
  if (session.quiet) words.emplace_back("--quiet");
  return words;
}

std::string save(profiles::Profile& profile, const Options& options) {
  profile.date = utc_now();
  profile.versions = executor::library_versions();
  std::string file = options.output.empty()
                         ? profiles::user_profile_folder() + "/" + profile.name + ".json"
                         : options.output;
  profiles::write_profile(profile, file);
  return file;
}

int calibrate_gpu(const Options& options, const Session& session) {
  const ClusterSpec local = find_cluster(kLocalGpu);
  const executor::DeviceRates rates = executor::measure_device_rates();
  profiles::Profile profile;
  {
    const executor::Bootstrap alone;
    profile = measure(alone, options, session, "one GPU");
  }
  profile.name = kLocalGpu;
  profile.device = local.device;
  profile.device.bf16_flops_per_us = rates.bf16_flops_per_us;
  profile.device.fp32_flops_per_us = rates.fp32_flops_per_us;
  profile.device.memory_bytes_per_us = rates.read_bytes_per_us;
  profile.machine = fmt::format("{}, {}", local.device.name, machine_text());
  profile.ranks = 1;
  profile.method = fmt::format(
      "imhotep calibrate: operations timed by CUDA events inside whole steps of probe models, "
      "bf16, "
      "median of {} walks, one GPU",
      options.repeats);
  const std::string file = save(profile, options);
  print_summary(
      profile, file,
      {.gemm_flops_per_us = rates.bf16_flops_per_us, .read_bytes_per_us = rates.read_bytes_per_us},
      session);
  return 0;
}

int calibrate(const Options& options, const Session& session) {
  const ClusterSpec local = find_cluster("local");
  const int ranks = static_cast<int>(options.ranks.value_or(local.devices()));
  const executor::MachineRates rates = executor::measure_machine_rates();
  profiles::Profile profile;
  {
    const executor::Bootstrap alone;
    profile = measure(alone, options, session, "one rank");
  }
  if (ranks > 1) {
    profiles::Profile busy = measure_busy(ranks, child_arguments(options, session));
    for (auto& table : busy.tables) profile.tables.push_back(std::move(table));
    profile.collectives = std::move(busy.collectives);
  }
  profile.name = local.name;
  profile.device = local.device;
  profile.device.fp32_flops_per_us = rates.gemm_flops_per_us;
  profile.device.memory_bytes_per_us = rates.read_bytes_per_us;
  profile.machine = machine_text();
  profile.ranks = 1;
  profile.method = fmt::format(
      "imhotep calibrate: operations timed inside whole steps of probe models, median of {} walks, "
      "one rank alone and {} at once; collectives alone",
      options.repeats, ranks);
  const std::string file = save(profile, options);
  print_summary(profile, file, rates, session);
  return 0;
}

}  // namespace

Run setup_calibrate(Arguments& arguments) {
  const auto options = std::make_shared<Options>();
  arguments.text("--model", options->model, "measure the shapes of this model too");
  arguments.integer("--sequence", options->sequence, "tokens of its sequences");
  arguments.integer("--batch", options->batch, "its sequences at once, at most");
  arguments.integer("--ranks", options->ranks, "busy ranks (one a core)");
  arguments.integer("--repeats", options->repeats, "walks of every probe");
  arguments.flag("--fast", options->fast, "fewer probes");
  arguments.one_of("--device", {"auto", "cpu", "cuda"}, "auto takes a GPU where there is one",
                   [options](const std::string& text) { options->device = text; });
  arguments.text("-o,--out", options->output, "profile to write (the user's folder)");
  arguments.example("imhotep calibrate");
  arguments.example("imhotep calibrate --model tiny-pr-moe-4-8 --fast");
  return [options](const Session& session) {
    const char* part = std::getenv(kPartVariable);
    if (part != nullptr && executor::Bootstrap::launched()) {
      return measure_part(*options, session, part);
    }
    std::string why;
    const bool gpu = options->device != "cpu" && detect_local_gpus(&why).has_value();
    if (options->device == "cuda" && !gpu) fail_missing("no GPU can be used here: {}", why);
    options->gpu = gpu;
    return gpu ? calibrate_gpu(*options, session) : calibrate(*options, session);
  };
}

}  // namespace imhotep::cli
