// The decode stack on the device against the CPU form: dense and routed blocks, one to eight rows,
// rows that share a sequence, histories from none to several hundred positions.

#include "kernels/decode_stack.h"

#include <algorithm>
#include <memory>

#include "tests/kernels/cuda/device_fixture.h"

namespace imhotep::kernels {
namespace {

using Values = std::vector<float>;
using Table = std::vector<std::int32_t>;

const Queue kHost{.device = Device::Cpu, .dtype = Dtype::F32};
constexpr Dtype kData = Dtype::Bf16;
constexpr std::int64_t kPage = 16;

struct Case {
  std::int64_t rows = 1, heads = 1, head_dim = 64;
  std::vector<DecodeLayer> layers;
  std::int64_t history = 0;  // positions before this step, of the longest sequence
  bool shared = false;       // all rows are of one sequence
  bool unused = false;       // the last row is padding
};

// What a layer points at, once on the host in fp32, once on the device in bf16.
struct Tensor {
  Values values;
  Dtype dtype = kData;
  std::unique_ptr<DeviceMemory> device;
};

class Layer {
 public:
  Layer(const DeviceQueue& queue, const Case& c, const DecodeLayer& s, std::int64_t slots,
        std::uint64_t seed)
      : queue_(queue), seed_(seed) {
    const std::int64_t h = c.heads * c.head_dim, f = s.ffn, e = s.experts;
    norm(host.gain1, device.gain1, host.shift1, device.shift1, h);
    product(host.qkv, device.qkv, host.qkv_bias, device.qkv_bias, 1, 3 * h, h);
    product(host.proj, device.proj, host.proj_bias, device.proj_bias, 1, h, h);
    norm(host.gain2, device.gain2, host.shift2, device.shift2, h);
    if (e == 0 || s.residual) {
      product(host.up, device.up, host.up_bias, device.up_bias, 1, f, h);
      product(host.down, device.down, host.down_bias, device.down_bias, 1, h, f);
    }
    if (e > 0) {
      put(host.gate, device.gate, e * h, 0.5F / std::sqrt(static_cast<float>(h)), Dtype::F32);
      if (e > 1) put_noise(c.rows, e, s.k);
      product(host.experts_up, device.experts_up, host.experts_up_bias, device.experts_up_bias, e,
              f, h);
      product(host.experts_down, device.experts_down, host.experts_down_bias,
              device.experts_down_bias, e, h, f);
      if (s.residual) {
        put(host.coefficient, device.coefficient, 2 * h, 0.05F, Dtype::F32);
        put(host.coefficient_bias, device.coefficient_bias, 2, 1, Dtype::F32);
      }
    }
    k_pages = random_values(slots * h, seed_ * 64 + 62, kData);
    v_pages = random_values(slots * h, seed_ * 64 + 63, kData);
    host.k_pages = k_pages.data();
    host.v_pages = v_pages.data();
    expert.assign(static_cast<std::size_t>(c.rows * s.k), 0);
    weight.assign(expert.size(), 0);
    stats.assign(static_cast<std::size_t>(2 * e), 0);
    host.expert = expert.data();
    host.weight = weight.data();
    host.stats = stats.data();
    device_expert = std::make_unique<DeviceMemory>(queue.poisoned(c.rows * s.k, Dtype::I32));
    device_weight = std::make_unique<DeviceMemory>(queue.poisoned(c.rows * s.k, Dtype::F32));
    device_stats = std::make_unique<DeviceMemory>(queue.poisoned(2 * e + 1, Dtype::F32));
    device.expert = static_cast<std::int32_t*>(device_expert->data());
    device.weight = device_weight->data();
    device.stats = device_stats->data();
    upload_pages();
  }

  void upload_pages() {
    device_k = std::make_unique<DeviceMemory>(queue_.upload(k_pages));
    device_v = std::make_unique<DeviceMemory>(queue_.upload(v_pages));
    device.k_pages = device_k->data();
    device.v_pages = device_v->data();
  }

  DecodeLayerOperands host, device;
  Values k_pages, v_pages, weight, stats;
  Table expert;
  std::unique_ptr<DeviceMemory> device_k, device_v, device_expert, device_weight, device_stats;

 private:
  void put(const void*& on_host, const void*& on_device, std::int64_t count, float scale,
           Dtype dtype = kData, float shift = 0) {
    auto tensor = std::make_unique<Tensor>();
    tensor->values = random_values(count, seed_ * 64 + tensors_.size(), dtype, scale);
    for (float& value : tensor->values) {
      value += shift;
      if (dtype == kData) value = from_bf16(to_bf16(value));
    }
    tensor->device = std::make_unique<DeviceMemory>(queue_.upload(tensor->values, dtype));
    on_host = tensor->values.data();
    on_device = tensor->device->data();
    tensors_.push_back(std::move(tensor));
  }
  // Clear choices, which the rounding of what comes before does not change.
  void put_noise(std::int64_t rows, std::int64_t experts, std::int64_t k) {
    put(host.noise, device.noise, rows * experts, 0, Dtype::F32);
    Tensor& noise = *tensors_.back();
    for (std::int64_t t = 0; t < rows; ++t) {
      const std::uint64_t first = hash(seed_, static_cast<std::uint64_t>(t));
      for (std::int64_t c = 0; c < k; ++c) {
        const auto e = static_cast<std::int64_t>((first + static_cast<std::uint64_t>(c)) %
                                                 static_cast<std::uint64_t>(experts));
        noise.values[t * experts + e] = 4 - 1.5F * static_cast<float>(c);
      }
    }
    noise.device = std::make_unique<DeviceMemory>(queue_.upload(noise.values, Dtype::F32));
    device.noise = noise.device->data();
  }
  void norm(const void*& gain, const void*& device_gain, const void*& shift,
            const void*& device_shift, std::int64_t h) {
    put(gain, device_gain, h, 0.1F, kData, 1);
    put(shift, device_shift, h, 0.1F);
  }
  void product(const void*& w, const void*& device_w, const void*& bias, const void*& device_bias,
               std::int64_t count, std::int64_t n, std::int64_t k) {
    put(w, device_w, count * n * k, 1 / std::sqrt(static_cast<float>(k)));
    put(bias, device_bias, count * n, 0.5F);
  }

  const DeviceQueue& queue_;
  std::uint64_t seed_;
  std::vector<std::unique_ptr<Tensor>> tensors_;
};

struct Tables {
  Table positions, sequences, blocks, used;
  std::int64_t max_pages = 0;
};

Tables make_tables(const Case& c) {
  Tables t;
  t.max_pages = (c.history + c.rows + kPage) / kPage;
  const std::int64_t sequences = c.shared ? 1 : c.rows;
  for (std::int64_t r = 0; r < c.rows; ++r) {
    const bool used = !(c.unused && r + 1 == c.rows);
    const std::int64_t own = c.shared ? c.history + r : c.history * (c.rows - r) / c.rows;
    t.positions.push_back(used ? static_cast<std::int32_t>(own) : -1);
    t.sequences.push_back(used && !c.shared ? static_cast<std::int32_t>(r) : 0);
    t.used.push_back(used ? 1 : 0);
  }
  for (std::int64_t i = 0; i < sequences * t.max_pages; ++i) {  // pages in no particular order
    t.blocks.push_back(static_cast<std::int32_t>(sequences * t.max_pages - 1 - i));
  }
  return t;
}

// The device's stack against itself, layer by layer: the same bits.
void check_steps(const DeviceQueue& queue, const DecodeStack& shape, DecodeStackOperands operands,
                 const DeviceMemory& out) {
  const std::int64_t size = out.bytes() / 2;
  const DeviceMemory even = queue.poisoned(size), odd = queue.poisoned(size);
  const DecodeLayerOperands* layers = operands.layers;
  for (std::size_t i = 0; i < shape.layers.size(); ++i) {
    operands.layers = layers + i;
    operands.y = i % 2 == 0 ? even.data() : odd.data();
    decode_stack(queue, {.attention = shape.attention, .layers = {shape.layers[i]}}, operands);
    operands.x = operands.y;
  }
  const DeviceMemory& last = shape.layers.size() % 2 == 1 ? even : odd;
  CHECK(queue.download_raw<std::uint16_t>(out) == queue.download_raw<std::uint16_t>(last));
}

void check_outputs(const DeviceQueue& queue, const Case& c, const Layer& layer) {
  check_close(queue.download(*layer.device_k), layer.k_pages, chained_tolerance(kData));
  check_close(queue.download(*layer.device_v), layer.v_pages, chained_tolerance(kData));
  if (c.layers[0].experts == 0) return;
  CHECK(queue.download_raw<std::int32_t>(*layer.device_expert) == layer.expert);
  check_close(queue.download(*layer.device_weight, Dtype::F32), layer.weight,
              chained_tolerance(kData));
  Values stats = queue.download(*layer.device_stats, Dtype::F32);
  stats.pop_back();
  check_close(stats, layer.stats, chained_tolerance(kData));
}

// One layer is compared with the CPU; roundings would add up over several.
void check_stack(const DeviceQueue& queue, const Case& c, std::uint64_t seed) {
  CAPTURE(seed);
  CAPTURE(c.rows);
  CAPTURE(c.heads);
  CAPTURE(c.head_dim);
  CAPTURE(c.history);
  const std::int64_t h = c.heads * c.head_dim;
  const Tables t = make_tables(c);
  const std::int64_t sequences = c.shared ? 1 : c.rows, slots = sequences * t.max_pages * kPage;
  const DecodeStack shape{.attention = {.rows = c.rows,
                                        .heads = c.heads,
                                        .head_dim = c.head_dim,
                                        .page_size = kPage,
                                        .max_pages = t.max_pages,
                                        .sequences = sequences},
                          .layers = c.layers};
  std::vector<std::unique_ptr<Layer>> layers;
  std::vector<DecodeLayerOperands> host, device;
  for (const DecodeLayer& s : c.layers) {
    layers.push_back(std::make_unique<Layer>(queue, c, s, slots, seed * 8 + layers.size()));
    host.push_back(layers.back()->host);
    device.push_back(layers.back()->device);
  }
  const Values x = random_values(c.rows * h, seed * 512 + 500, kData);
  const DeviceMemory dx = queue.upload(x), positions = queue.upload_raw(t.positions),
                     rows_of = queue.upload_raw(t.sequences), blocks = queue.upload_raw(t.blocks),
                     used = queue.upload_raw(t.used), out = queue.poisoned(c.rows * h),
                     again = queue.poisoned(c.rows * h);
  DecodeStackOperands operands{.x = dx.data(),
                               .positions = static_cast<const std::int32_t*>(positions.data()),
                               .sequences = static_cast<const std::int32_t*>(rows_of.data()),
                               .block_table = static_cast<const std::int32_t*>(blocks.data()),
                               .used = static_cast<const std::int32_t*>(used.data()),
                               .layers = device.data(),
                               .y = out.data()};
  decode_stack(queue, shape, operands);
  if (layers.size() == 1) {
    Values y(x.size());
    decode_stack(kHost, shape,
                 {.x = x.data(),
                  .positions = t.positions.data(),
                  .sequences = t.sequences.data(),
                  .block_table = t.blocks.data(),
                  .used = t.used.data(),
                  .layers = host.data(),
                  .y = y.data()});
    check_close(queue.download(out), y, chained_tolerance(kData));
    check_outputs(queue, c, *layers[0]);
  } else {
    check_steps(queue, shape, operands, out);
  }
  operands.y = again.data();
  decode_stack(queue, shape, operands);
  CHECK(queue.download_raw<std::uint16_t>(out) == queue.download_raw<std::uint16_t>(again));
  CHECK(queue.fault().fault == Fault::None);
}

constexpr DecodeLayer dense(std::int64_t ffn) { return {.ffn = ffn}; }
constexpr DecodeLayer routed(std::int64_t ffn, std::int64_t experts, bool residual,
                             std::int64_t k = 1) {
  return {.ffn = ffn, .experts = experts, .k = k, .residual = residual};
}

TEST_CASE("a dense block in one kernel gives what the CPU gives") {
  const DeviceQueue queue(kData);
  std::uint64_t seed = 0;
  for (const std::int64_t rows : {1, 2, 5, 8}) {
    for (const std::int64_t history : {0, 1, 40, 600}) {
      check_stack(queue, {.rows = rows, .layers = {dense(256)}, .history = history}, ++seed);
    }
  }
  check_stack(
      queue, {.rows = 3, .heads = 2, .head_dim = 128, .layers = {dense(1024)}, .history = 200}, 50);
  check_stack(queue, {.rows = 1, .heads = 16, .layers = {dense(4096)}, .history = 512}, 51);
  check_stack(queue, {.rows = 6, .heads = 5, .layers = {dense(992)}, .history = 70}, 52);
}

TEST_CASE("a routed block in one kernel gives what the CPU gives") {
  const DeviceQueue queue(kData);
  std::uint64_t seed = 100;
  for (const bool residual : {false, true}) {
    for (const std::int64_t rows : {1, 2, 7, 8}) {
      check_stack(queue, {.rows = rows, .layers = {routed(256, 8, residual)}, .history = 30},
                  ++seed);
    }
    check_stack(queue, {.rows = 4, .layers = {routed(512, 7, residual, 2)}, .history = 30}, ++seed);
    check_stack(queue, {.rows = 8, .heads = 2, .layers = {routed(256, 1, residual)}}, ++seed);
    check_stack(queue, {.rows = 2, .layers = {routed(64, 200, residual)}}, ++seed);
  }
  check_stack(queue, {.rows = 2, .heads = 16, .layers = {routed(4096, 2, true)}, .history = 64},
              150);
  check_stack(queue, {.rows = 1, .heads = 32, .layers = {routed(2048, 2, true)}, .history = 64},
              151);
}

TEST_CASE("blocks follow each other in one kernel, beyond what one launch takes too") {
  const DeviceQueue queue(kData);
  check_stack(queue,
              {.rows = 3,
               .heads = 2,
               .layers = {dense(256), routed(256, 4, true), dense(512), routed(256, 8, false)},
               .history = 50,
               .unused = true},
              200);
  check_stack(queue, {.rows = 2, .layers = std::vector<DecodeLayer>(50, dense(64)), .history = 5},
              201);
}

TEST_CASE("rows of one sequence see each other in a decode stack") {
  const DeviceQueue queue(kData);
  check_stack(queue, {.rows = 8, .layers = {dense(256)}, .shared = true}, 300);
  check_stack(queue,
              {.rows = 5, .heads = 3, .layers = {dense(256)}, .history = 100, .shared = true}, 301);
}

TEST_CASE("padding passes through a decode stack without experts") {
  const DeviceQueue queue(kData);
  check_stack(queue, {.rows = 1, .layers = {routed(256, 4, true)}, .unused = true}, 400);
  check_stack(queue, {.rows = 8, .layers = {routed(256, 4, false)}, .history = 9, .unused = true},
              401);
}

}  // namespace
}  // namespace imhotep::kernels
