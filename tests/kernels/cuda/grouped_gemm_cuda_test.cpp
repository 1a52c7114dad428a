// The grouped product on the device against the CPU's, mode by mode, from one tile of one step to
// the sizes of real layers. The wgmma kernel and the plain one are chosen through the environment;
// fp32 has only the plain one. A failed comparison prints the first wrong element.

#include "kernels/grouped_gemm.h"

#include <cstdlib>
#include <numeric>
#include <string>

#include "tests/kernels/cuda/device_fixture.h"

namespace imhotep::kernels {
namespace {

constexpr std::int64_t kSlack = 5;  // rows of the buffers behind the last expert's: NaN

struct Layer {
  std::string name;
  std::vector<std::int32_t> rows;
  std::int64_t n = 0, k = 0;

  [[nodiscard]] std::int64_t experts() const { return static_cast<std::int64_t>(rows.size()); }
  [[nodiscard]] std::vector<std::int32_t> offsets() const {
    std::vector<std::int32_t> sums(rows.size() + 1);
    std::partial_sum(rows.begin(), rows.end(), sums.begin() + 1);
    return sums;
  }
};

struct Way {
  GroupedMode mode = GroupedMode::Forward;
  Epilogue epilogue = Epilogue::None;
  bool accumulate = false, bias = true, pre = true;
};

struct Engine {
  Dtype dtype = Dtype::Bf16;
  const char* kernel = "";  // of IMHOTEP_GROUPED_GEMM
};

bool hopper() { return cuda_api().device(0).compute_major == 9; }

std::vector<Engine> engines() {
  std::vector<Engine> all{{Dtype::F32, "plain"}, {Dtype::Bf16, "plain"}};
  if (hopper()) all.push_back({Dtype::Bf16, "sm90"});
  return all;
}

// Uniform in [-1, 1), quickly made.
std::vector<float> values(std::int64_t count, std::uint64_t seed, Dtype dtype) {
  std::vector<float> made(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < made.size(); ++i) {
    made[i] =
        static_cast<float>(static_cast<double>(mix64(seed * 0x10001 + i) >> 40) * 0x1p-23 - 1);
    if (dtype == Dtype::Bf16) made[i] = from_bf16(to_bf16(made[i]));
  }
  return made;
}

// Everything a call needs, on the host.
struct Data {
  std::vector<std::int32_t> offsets;
  std::int64_t bound = 0;
  std::vector<float> in, activation, weight, bias, pre, out;
};

Data make_data(const Layer& layer, const Way& way, Dtype dtype, std::uint64_t seed) {
  Data data;
  data.offsets = layer.offsets();
  const std::int64_t rows = data.offsets.back();
  data.bound = rows + kSlack;
  const auto matrix = [&](std::int64_t columns, std::uint64_t which) {
    auto made = values(rows * columns, seed * 16 + which, dtype);
    made.resize(static_cast<std::size_t>(data.bound * columns), std::nanf(""));
    return made;
  };
  const bool forward = way.mode == GroupedMode::Forward;
  const bool weight = way.mode == GroupedMode::GradWeight;
  data.in = matrix(forward ? layer.k : layer.n, 1);
  const std::int64_t weights = layer.experts() * layer.n * layer.k;
  if (weight) {
    data.activation = matrix(layer.k, 2);
    data.out = values(weights, seed * 16 + 3, dtype);  // what is added to, or overwritten
    return data;
  }
  data.weight = values(weights, seed * 16 + 4, dtype);
  data.bias = values(layer.experts() * layer.n, seed * 16 + 5, dtype);
  const std::int64_t columns = forward ? layer.n : layer.k;
  data.pre = matrix(columns, 6);
  data.out.assign(static_cast<std::size_t>(data.bound * columns), std::nanf(""));
  if (forward) data.pre = data.out;
  return data;
}

GroupedGemm shape_of(const Layer& layer, const Way& way, std::int64_t bound) {
  return {.mode = way.mode,
          .rows = {bound, static_cast<double>(bound)},
          .experts = layer.experts(),
          .n = layer.n,
          .k = layer.k,
          .epilogue = way.epilogue,
          .accumulate = way.accumulate};
}

struct Answer {
  std::vector<float> out, pre;
};

Answer on_cpu(const Layer& layer, const Way& way, Data data) {
  float* result = data.out.data();
  grouped_gemm({Device::Cpu, Dtype::F32}, shape_of(layer, way, data.bound),
               {.expert_offsets = data.offsets.data(),
                .in = data.in.data(),
                .activation = data.activation.data(),
                .weight = data.weight.data(),
                .bias = way.bias ? data.bias.data() : nullptr,
                .pre = way.pre ? data.pre.data() : nullptr,
                .out = result,
                .d_weight = result});
  return {std::move(data.out), std::move(data.pre)};
}

Answer on_device(const DeviceQueue& queue, const Layer& layer, const Way& way, const Data& data) {
  const DeviceMemory offsets = queue.upload_raw(data.offsets), in = queue.upload(data.in),
                     activation = queue.upload(data.activation), weight = queue.upload(data.weight),
                     bias = queue.upload(data.bias), pre = queue.upload(data.pre),
                     out = queue.upload(data.out);
  grouped_gemm(queue, shape_of(layer, way, data.bound),
               {.expert_offsets = static_cast<const std::int32_t*>(offsets.data()),
                .in = in.data(),
                .activation = activation.data(),
                .weight = weight.data(),
                .bias = way.bias ? bias.data() : nullptr,
                .pre = way.pre ? pre.data() : nullptr,
                .out = out.data(),
                .d_weight = out.data()});
  cuda_api().wait(static_cast<const Queue&>(queue).stream);
  return {queue.download(out), queue.download(pre)};
}

// Where an element of a result lies, in words.
std::string place_of(const Layer& layer, const Way& way, std::size_t at) {
  const auto element = static_cast<std::int64_t>(at);
  if (way.mode == GroupedMode::GradWeight) {
    return "expert " + std::to_string(element / (layer.n * layer.k)) + ", n " +
           std::to_string(element / layer.k % layer.n) + ", k " + std::to_string(element % layer.k);
  }
  const std::int64_t columns = way.mode == GroupedMode::Forward ? layer.n : layer.k;
  const auto offsets = layer.offsets();
  const std::int64_t row = element / columns;
  std::size_t expert = 0;
  while (expert + 1 < offsets.size() && offsets[expert + 1] <= row) ++expert;
  return "expert " + std::to_string(expert) + ", row " + std::to_string(row - offsets[expert]) +
         " of the expert, column " + std::to_string(element % columns);
}

// NaN where the reference is NaN (rows that belong to nobody), close everywhere else.
void compare(const Layer& layer, const Way& way, Dtype dtype, const std::vector<float>& out,
             const std::vector<float>& reference) {
  REQUIRE(out.size() == reference.size());
  double largest = 0;
  for (const float x : reference) {
    if (!std::isnan(x)) largest = std::fmax(largest, std::fabs(static_cast<double>(x)));
  }
  const double allowed = tolerance(dtype).worst * largest;
  std::vector<float> found, expected;
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const bool nobody = std::isnan(reference[i]);
    const double error = std::fabs(static_cast<double>(out[i]) - static_cast<double>(reference[i]));
    if (nobody ? !std::isnan(out[i]) : !(error <= allowed)) {
      if (++wrong == 1) {
        MESSAGE("first wrong: " << place_of(layer, way, i) << ": expected " << reference[i]
                                << ", found " << out[i]);
      }
    }
    if (!nobody) {
      found.push_back(out[i]);
      expected.push_back(reference[i]);
    }
  }
  CHECK(wrong == 0);
  check_close(found, expected, tolerance(dtype));
}

void check(const Engine& engine, const Layer& layer, const Way& way, std::uint64_t seed = 1) {
  INFO(layer.name << ", " << engine.kernel << ", bytes an element " << bytes_of(engine.dtype)
                  << ", mode " << static_cast<int>(way.mode) << ", epilogue "
                  << static_cast<int>(way.epilogue) << ", accumulate " << way.accumulate
                  << ", seed " << seed);
  setenv("IMHOTEP_GROUPED_GEMM", engine.kernel, 1);
  const DeviceQueue queue(engine.dtype);
  const Data data = make_data(layer, way, engine.dtype, seed);
  const Answer reference = on_cpu(layer, way, data);
  const Answer answer = on_device(queue, layer, way, data);
  compare(layer, way, engine.dtype, answer.out, reference.out);
  if (way.epilogue == Epilogue::BiasGelu && way.pre) {
    compare(layer, way, engine.dtype, answer.pre, reference.pre);
  }
  const Answer again = on_device(queue, layer, way, data);
  CHECK(std::memcmp(again.out.data(), answer.out.data(), answer.out.size() * sizeof(float)) == 0);
  CHECK(queue.fault().fault == Fault::None);
  unsetenv("IMHOTEP_GROUPED_GEMM");
}

std::vector<std::int32_t>
every_height() {  // one expert for each width of wgmma used, and two tiles
  std::vector<std::int32_t> rows;
  for (std::int32_t i = 1; i <= 18; ++i) rows.push_back(16 * i - 3);
  return rows;
}

// All multiples of 64, so that both kernels take them.
const std::vector<Layer>& layers() {
  static const std::vector<Layer> all{
      {"one tile, one step", {64}, 128, 64},
      {"one tile, half of it there", {64}, 64, 64},
      {"one tile, four steps", {128}, 128, 256},
      {"one tile, a ring and a half", {256}, 128, 384},
      {"several tiles of M and N", {128}, 384, 320},
      {"a ragged expert", {77}, 128, 128},
      {"two ragged experts", {77, 50}, 128, 128},
      {"experts without rows", {0, 33, 0, 0, 300, 0}, 192, 128},
      {"every height", every_height(), 128, 192},
      {"more tiles than SMs", {300, 257, 0, 511, 290, 17, 256, 400}, 2048, 256},
  };
  return all;
}

TEST_CASE("cuda grouped_gemm: the forward product, with bias, with GELU") {
  for (const Engine& engine : engines()) {
    for (const Layer& layer : layers()) {
      check(engine, layer, {.epilogue = Epilogue::None});
      check(engine, layer, {.epilogue = Epilogue::Bias});
      check(engine, layer, {.epilogue = Epilogue::BiasGelu});
    }
    check(engine, layers()[8], {.epilogue = Epilogue::Bias, .bias = false});
    check(engine, layers()[8], {.epilogue = Epilogue::BiasGelu, .pre = false});
  }
}

TEST_CASE("cuda grouped_gemm: the gradient of the input, with the slope of GELU") {
  for (const Engine& engine : engines()) {
    for (const Layer& layer : layers()) {
      check(engine, layer, {.mode = GroupedMode::GradInput});
      check(engine, layer, {.mode = GroupedMode::GradInput, .epilogue = Epilogue::GeluGrad});
    }
  }
}

TEST_CASE("cuda grouped_gemm: the gradient of the weight, written or added") {
  for (const Engine& engine : engines()) {
    for (const Layer& layer : layers()) {
      check(engine, layer, {.mode = GroupedMode::GradWeight});
      check(engine, layer, {.mode = GroupedMode::GradWeight, .accumulate = true});
    }
  }
}

TEST_CASE("cuda grouped_gemm: sizes that fit no tile take the plain kernel") {
  const std::vector<Layer> odd{{"tiny", {0, 1, 0, 3}, 5, 3},
                               {"one column", {9, 2}, 1, 1},
                               {"odd", {8, 9, 0, 43, 1}, 33, 19},
                               {"multiples of 8", {130, 5}, 72, 40}};
  for (const Engine& engine : engines()) {
    if (engine.kernel != std::string("plain")) continue;
    for (const Layer& layer : odd) {
      check({engine.dtype, ""}, layer, {.epilogue = Epilogue::BiasGelu});
      check({engine.dtype, ""}, layer,
            {.mode = GroupedMode::GradInput, .epilogue = Epilogue::GeluGrad});
      check({engine.dtype, ""}, layer, {.mode = GroupedMode::GradWeight, .accumulate = true});
    }
  }
}

TEST_CASE("cuda grouped_gemm: several seeds of a routed layer") {
  for (const Engine& engine : engines()) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      Layer layer{"routed", std::vector<std::int32_t>(12), 256, 128};
      for (std::int32_t& rows : layer.rows) {
        rows = static_cast<std::int32_t>(
            hash(seed, static_cast<std::uint64_t>(&rows - layer.rows.data())) % 500);
      }
      check(engine, layer, {.epilogue = Epilogue::BiasGelu}, seed);
      check(engine, layer, {.mode = GroupedMode::GradInput, .epilogue = Epilogue::GeluGrad}, seed);
      check(engine, layer, {.mode = GroupedMode::GradWeight}, seed);
    }
  }
}

TEST_CASE("cuda grouped_gemm: no rows at all write nothing but zero gradients") {
  for (const Engine& engine : engines()) {
    const Layer none{"no rows", {0, 0, 0}, 128, 64};
    check(engine, none, {.epilogue = Epilogue::Bias});
    check(engine, none, {.mode = GroupedMode::GradInput});
    check(engine, none, {.mode = GroupedMode::GradWeight});
    check(engine, none, {.mode = GroupedMode::GradWeight, .accumulate = true});
  }
}

TEST_CASE("cuda grouped_gemm: rows beyond the bound are a fault, not an overrun") {
  for (const Engine& engine : engines()) {
    setenv("IMHOTEP_GROUPED_GEMM", engine.kernel, 1);
    const DeviceQueue queue(engine.dtype);
    const DeviceMemory offsets = queue.upload_raw(std::vector<std::int32_t>{0, 40, 90});
    const DeviceMemory in = queue.upload(values(64 * 64, 1, engine.dtype));
    const DeviceMemory weight = queue.upload(values(2 * 64 * 64, 2, engine.dtype));
    const DeviceMemory out = queue.poisoned(64 * 64);
    grouped_gemm(queue, {.rows = {64, 64}, .experts = 2, .n = 64, .k = 64},
                 {.expert_offsets = static_cast<const std::int32_t*>(offsets.data()),
                  .in = in.data(),
                  .weight = weight.data(),
                  .out = out.data()});
    const FaultRecord fault = queue.fault();
    CHECK(fault.fault == Fault::RowsExceedBound);
    CHECK(fault.values[0] == 90);
    CHECK(fault.values[1] == 64);
    unsetenv("IMHOTEP_GROUPED_GEMM");
  }
}

// One line of a product, by definition.
double dot(const std::vector<float>& a, std::int64_t a_first, std::int64_t a_step,
           const std::vector<float>& b, std::int64_t b_first, std::int64_t b_step,
           std::int64_t count) {
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    sum += static_cast<double>(a[static_cast<std::size_t>(a_first + i * a_step)]) *
           static_cast<double>(b[static_cast<std::size_t>(b_first + i * b_step)]);
  }
  return sum;
}

TEST_CASE("cuda grouped_gemm: lines of a layer of real width are sums of products") {
  const Layer layer{"real", {300, 0, 521, 211}, 4096, 1024};
  const std::int64_t n = layer.n, k = layer.k;
  for (const Engine& engine : engines()) {
    INFO("kernel " << engine.kernel);
    setenv("IMHOTEP_GROUPED_GEMM", engine.kernel, 1);
    const DeviceQueue queue(engine.dtype);
    for (const GroupedMode mode :
         {GroupedMode::Forward, GroupedMode::GradInput, GroupedMode::GradWeight}) {
      const Way way{.mode = mode};
      const Data data = make_data(layer, way, engine.dtype, 9);
      const Answer answer = on_device(queue, layer, way, data);
      std::vector<float> found, expected;
      for (std::uint64_t sample = 0; sample < 4000; ++sample) {
        const auto draw = [&](std::uint64_t which, std::int64_t below) {
          return static_cast<std::int64_t>(hash(sample, which, static_cast<std::uint64_t>(mode)) %
                                           static_cast<std::uint64_t>(below));
        };
        const std::int64_t e = std::vector<std::int64_t>{0, 2, 3}[draw(1, 3)];
        const std::int64_t begin = data.offsets[e], rows = data.offsets[e + 1] - begin;
        const std::int64_t row = begin + draw(2, rows), i = draw(3, n), j = draw(4, k);
        std::int64_t at = 0;
        double sum = 0;
        if (mode == GroupedMode::Forward) {
          at = row * n + i;
          sum = dot(data.in, row * k, 1, data.weight, (e * n + i) * k, 1, k);
        } else if (mode == GroupedMode::GradInput) {
          at = row * k + j;
          sum = dot(data.in, row * n, 1, data.weight, e * n * k + j, k, n);
        } else {
          at = (e * n + i) * k + j;
          sum = dot(data.in, begin * n + i, n, data.activation, begin * k + j, k, rows);
        }
        found.push_back(answer.out[static_cast<std::size_t>(at)]);
        expected.push_back(static_cast<float>(sum));
      }
      CAPTURE(static_cast<int>(mode));
      check_close(found, expected, tolerance(engine.dtype));
    }
    unsetenv("IMHOTEP_GROUPED_GEMM");
  }
}

TEST_CASE("cuda grouped_column_sum: every expert's rows are added to its line") {
  const std::vector<Layer> cases{{"tiny", {0, 1, 0, 3}, 5, 0},
                                 {"odd", {8, 9, 0, 43, 1}, 33, 0},
                                 {"one strip", {700}, 64, 0},
                                 {"no rows", {0, 0}, 64, 0},
                                 {"one expert has nearly all", {1, 3000, 0, 2}, 520, 0},
                                 {"many", std::vector<std::int32_t>(100, 37), 1024, 0}};
  for (const Dtype dtype : {Dtype::F32, Dtype::Bf16}) {
    for (const Layer& layer : cases) {
      INFO(layer.name << ", bytes an element " << bytes_of(dtype));
      const DeviceQueue queue(dtype);
      const auto table = layer.offsets();
      const std::int64_t rows = table.back(), bound = rows + kSlack;
      auto in = values(rows * layer.n, 3, dtype);
      in.resize(static_cast<std::size_t>(bound * layer.n), std::nanf(""));
      auto out = values(layer.experts() * layer.n, 4, dtype);
      const GroupedColumnSum shape{{bound, 0}, layer.experts(), layer.n};
      const DeviceMemory offsets = queue.upload_raw(table), device_in = queue.upload(in);
      const auto run = [&] {
        const DeviceMemory device_out = queue.upload(out);
        grouped_column_sum(queue, shape,
                           {static_cast<const std::int32_t*>(offsets.data()), device_in.data(),
                            device_out.data()});
        return queue.download(device_out);
      };
      const std::vector<float> found = run(), again = run();
      CHECK(found == again);
      grouped_column_sum({Device::Cpu, Dtype::F32}, shape, {table.data(), in.data(), out.data()});
      check_close(found, out, tolerance(dtype));
    }
  }
}

}  // namespace
}  // namespace imhotep::kernels
