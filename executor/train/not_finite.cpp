#include "executor/train/not_finite.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/base/fail.h"

namespace imhotep::executor {
namespace {

struct Written {
  std::size_t output;

  // The outputs from the first on, in the order of core/program/operands.md.
  [[nodiscard]] std::int64_t of(std::initializer_list<std::int64_t> elements) const {
    return output < elements.size() ? elements.begin()[output] : 0;
  }

  std::int64_t operator()(const LayerNorm& s) const {
    return of({s.rows * s.hidden, s.rows, s.rows});
  }
  std::int64_t operator()(const LayerNormGrad& s) const {
    return of({s.rows * s.hidden, s.hidden, s.hidden});
  }
  std::int64_t operator()(const Gemm& s) const {
    const bool pre = s.epilogue == Epilogue::BiasGelu;
    const bool sums = s.epilogue == Epilogue::BiasGrad;
    return of({s.m * s.n, pre ? s.m * s.n : sums ? s.m : 0});
  }
  std::int64_t operator()(const ColumnSum& s) const { return of({s.cols}); }
  std::int64_t operator()(const Add& s) const { return of({s.elements}); }
  std::int64_t operator()(const Embedding& s) const { return of({s.rows * s.hidden}); }
  std::int64_t operator()(const EmbeddingGrad& s) const { return of({s.vocab_count * s.hidden}); }
  std::int64_t operator()(const Attention& s) const {
    return of({s.batch * s.sequence * s.heads * s.head_dim});
  }
  std::int64_t operator()(const AttentionGrad& s) const {
    return of({3 * s.batch * s.sequence * s.heads * s.head_dim});
  }
  std::int64_t operator()(const Route& s) const { return of({s.tokens * s.experts}); }
  std::int64_t operator()(const RouteGrad& s) const { return of({s.tokens * s.experts}); }
  std::int64_t operator()(const Combine& s) const { return of({s.tokens * s.hidden}); }
  std::int64_t operator()(const ScatterSum& s) const { return of({s.tokens * s.hidden}); }
  std::int64_t operator()(const GroupedGemm& s) const {
    return of({s.mode == GroupedMode::GradWeight ? s.experts * s.n * s.k : 0});
  }
  std::int64_t operator()(const GroupedColumnSum& s) const { return of({s.experts * s.cols}); }
  std::int64_t operator()(const ResidualMix& s) const { return of({s.rows * s.hidden}); }
  std::int64_t operator()(const ResidualMixGrad& s) const {
    return of({s.rows * s.hidden, s.rows * s.hidden, 2 * s.rows});
  }
  std::int64_t operator()(const CrossEntropy& s) const {
    return of({s.gradient ? s.rows * s.cols : 0});
  }
  std::int64_t operator()(const AllReduce& s) const { return of({s.elements}); }
  template <class Other>
  std::int64_t operator()(const Other&) const {
    return 0;
  }
};

bool is_finite(float x) { return std::isfinite(x); }
bool is_finite(double x) { return std::isfinite(x); }
bool is_finite(std::uint16_t bf16) { return (bf16 & 0x7F80) != 0x7F80; }

template <class T>
std::int64_t first_in(const std::byte* data, std::int64_t count) {
  const auto* values = reinterpret_cast<const T*>(data);
  const auto* bad = std::find_if(values, values + count, [](T x) { return !is_finite(x); });
  return bad == values + count ? -1 : bad - values;
}

std::int64_t first_on_host(const std::byte* data, Dtype dtype, std::int64_t count) {
  switch (dtype) {
    case Dtype::F32:
      return first_in<float>(data, count);
    case Dtype::F64:
      return first_in<double>(data, count);
    case Dtype::Bf16:
      return first_in<std::uint16_t>(data, count);
    case Dtype::I32:
      return -1;
  }
  return -1;
}

}  // namespace

std::int64_t elements_written(const program::Shape& shape, std::size_t output) {
  return std::visit(Written{output}, shape);
}

std::int64_t first_not_finite(const Runner& runner, const std::byte* data, Dtype dtype,
                              std::int64_t count) {
  const kernels::Queue queue = runner.queue(dtype);
  if (queue.device == kernels::Device::Cpu) return first_on_host(data, dtype, count);
  constexpr std::int64_t kAtOnce = 4 << 20;
  const std::int64_t size = bytes_of(dtype);
  std::vector<std::byte> host(static_cast<std::size_t>(std::min(count, kAtOnce) * size));
  for (std::int64_t done = 0; done < count; done += kAtOnce) {
    const std::int64_t part = std::min(count - done, kAtOnce);
    kernels::cuda_api().copy_out(host.data(), data + done * size, part * size, queue.stream);
    runner.wait();
    const std::int64_t found = first_on_host(host.data(), dtype, part);
    if (found >= 0) return done + found;
  }
  return -1;
}

bool wrote_finite(const Runner& runner, int program, const program::Operation& operation) {
  for (std::size_t i = 0; i < operation.outputs.size(); ++i) {
    const program::Operand& output = operation.outputs[i];
    if (!output.valid()) continue;
    const program::Buffer& buffer = runner.program(program)[output.buffer];
    if (buffer.kind == program::BufferKind::Input) continue;  // their twins on the host are older
    const std::int64_t count =
        std::min(elements_written(operation.shape, i), buffer.elements - output.offset);
    const std::byte* data =
        runner.address(program, output.buffer) + output.offset * bytes_of(buffer.dtype);
    if (first_not_finite(runner, data, buffer.dtype, count) >= 0) return false;
  }
  return true;
}

std::string describe_not_finite(const program::Operation& operation) {
  const std::string place = operation.layer >= 0
                                ? fmt::format("layer {0} (blocks.{0})", operation.layer)
                                : "embedding or head";
  return fmt::format("{} is the first whose {} is not finite ({}, {})", place,
                     operation.pass == program::Pass::Backward ? "gradient" : "output",
                     operation.name, program::pass_name(operation.pass));
}

std::string weights_not_finite(const Runner& runner) {
  const WeightLayout& layout = runner.program(0).weights;
  for (std::size_t r = 0; r < layout.regions.size(); ++r) {
    const Region& region = layout.regions[r];
    const std::byte* data = runner.region(program::BufferKind::Weight, static_cast<int>(r));
    const std::int64_t at = first_not_finite(runner, data, region.dtype, region.elements);
    if (at < 0) continue;
    for (const LocalTensor& tensor : region.tensors) {
      if (at < tensor.offset || at >= tensor.offset + tensor.elements) continue;
      const auto stacked = (at - tensor.offset) / tensor.elements_per_tensor();
      return tensor_name(tensor.role, tensor.layer,
                         tensor.expert_begin + static_cast<int>(stacked));
    }
    return "padding of weights";
  }
  return {};
}

}  // namespace imhotep::executor
