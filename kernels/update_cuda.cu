// adamw: one access of bf16 (8 parameters) a thread, or four parameters of fp32; 7 loads of 16
// bytes are in flight before the first is used, and nothing is read twice: 28 bytes a parameter in
// bf16 with a master copy. The factor of clipping is read on the device.
// sum_squares: every block leaves one fp64 sum in the workspace, and one block adds them, always in
// the same order.

#include <cmath>

#include "kernels/cuda_lanes.cuh"
#include "kernels/update.h"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kSumThreads = 512, kSumBlocksPerSm = 4;  // all threads a multiprocessor holds
constexpr int kSumPacks = 4;                           // loads in flight

template <class T, int kStep>
__global__ void __launch_bounds__(kSumThreads)
    sum_block(std::int64_t elements, const T* x, double* partial) {
  __shared__ double shared[kWarp];
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kSumThreads * kStep;
  std::int64_t at = (static_cast<std::int64_t>(blockIdx.x) * kSumThreads + threadIdx.x) * kStep;
  const std::int64_t end = elements - elements % kStep;
  double sum = 0;
  for (; at < end; at += kSumPacks * step) {
    Raw<T, kStep> raw[kSumPacks];
#pragma unroll
    for (int p = 0; p < kSumPacks; ++p) {
      if (at + p * step < end) raw[p] = load_raw<T, kStep>(x + at + p * step);
    }
#pragma unroll
    for (int p = 0; p < kSumPacks; ++p) {
      if (at + p * step >= end) continue;
      const Lanes<kStep> lanes = raw[p].lanes();
      float few = 0;
#pragma unroll
      for (int i = 0; i < kStep; ++i) few += lanes.at[i] * lanes.at[i];
      sum += static_cast<double>(few);
    }
  }
  if (blockIdx.x == 0 && end + threadIdx.x < elements) {
    const float last = to_float(x[end + threadIdx.x]);
    sum += static_cast<double>(last * last);
  }
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kSumThreads)
    add_sums(const double* partial, int count, double scale, double* total) {
  __shared__ double shared[kWarp];
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kSumThreads) sum += partial[i];
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) *total += scale * sum;
}

__global__ void clip(double limit, ClipScaleOperands o) {
  const double norm = sqrt(*o.total);
  *o.norm = norm;
  const double ratio = limit / (norm + 1e-6);
  *o.factor = !isfinite(norm) ? 0.0 : limit > 0 && ratio < 1 ? ratio : 1.0;
}

struct AdamWStep {
  float beta1, rest1, beta2, rest2;
  float step;        // lr / (1 - beta1^step)
  float correction;  // 1 / sqrt(1 - beta2^step)
  float eps;
  float keep;  // of a weight that decays
};

AdamWStep step_of(const AdamWHyper& hyper) {
  const auto steps = static_cast<double>(hyper.step);
  return {.beta1 = static_cast<float>(hyper.beta1),
          .rest1 = static_cast<float>(1 - hyper.beta1),
          .beta2 = static_cast<float>(hyper.beta2),
          .rest2 = static_cast<float>(1 - hyper.beta2),
          .step = static_cast<float>(hyper.lr / (1 - std::pow(hyper.beta1, steps))),
          .correction = static_cast<float>(1 / std::sqrt(1 - std::pow(hyper.beta2, steps))),
          .eps = static_cast<float>(hyper.eps),
          .keep = static_cast<float>(1 - hyper.lr * hyper.weight_decay)};
}

// kStep floats, 16 bytes at a time where kStep is a multiple of four.
template <int kStep>
__device__ inline Lanes<kStep> stream_in(const float* from) {
  Lanes<kStep> x;
  if constexpr (kStep == 1) {
    x.at[0] = __ldcs(from);
  } else {
#pragma unroll
    for (int i = 0; i < kStep; i += 4) {
      const float4 four = __ldcs(reinterpret_cast<const float4*>(from + i));
      x.at[i] = four.x, x.at[i + 1] = four.y, x.at[i + 2] = four.z, x.at[i + 3] = four.w;
    }
  }
  return x;
}
template <int kStep>
__device__ inline void stream_out(float* to, const Lanes<kStep>& x) {
  if constexpr (kStep == 1) {
    __stcs(to, x.at[0]);
  } else {
#pragma unroll
    for (int i = 0; i < kStep; i += 4) {
      __stcs(reinterpret_cast<float4*>(to + i),
             make_float4(x.at[i], x.at[i + 1], x.at[i + 2], x.at[i + 3]));
    }
  }
}

template <class T, int kStep, bool kMaster>
__global__ void __launch_bounds__(kThreads)
    adamw_elements(AdamW shape, AdamWOperands o, AdamWStep by) {
  const std::int64_t at = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kStep;
  if (at >= shape.elements) return;
  const Raw<T, kStep> raw = load_raw<T, kStep>(static_cast<const T*>(o.grad) + at);
  Lanes<kStep> m = stream_in<kStep>(static_cast<const float*>(o.m) + at);
  Lanes<kStep> v = stream_in<kStep>(static_cast<const float*>(o.v) + at);
  T* weight = static_cast<T*>(o.weight) + at;
  float* master = static_cast<float*>(o.master) + at;
  Lanes<kStep> w;
  if constexpr (kMaster) {
    w = stream_in<kStep>(master);
  } else {
    w = load_lanes<T, kStep>(weight);
  }
  const float factor = o.factor != nullptr ? static_cast<float>(*o.factor) : 1.0F;
  if (!(factor > 0.0F)) return;
  const Lanes<kStep> grad = raw.lanes();
#pragma unroll
  for (int i = 0; i < kStep; ++i) {
    const float g = grad.at[i] * factor;
    m.at[i] = by.beta1 * m.at[i] + by.rest1 * g;
    v.at[i] = by.beta2 * v.at[i] + by.rest2 * g * g;
    const float keep = at + i < shape.decayed ? by.keep : 1.0F;
    w.at[i] = w.at[i] * keep - by.step * m.at[i] / (sqrtf(v.at[i]) * by.correction + by.eps);
  }
  stream_out<kStep>(static_cast<float*>(o.m) + at, m);
  stream_out<kStep>(static_cast<float*>(o.v) + at, v);
  if constexpr (kMaster) stream_out<kStep>(master, w);
  store_lanes<T, kStep>(weight, w);
}

}  // namespace

void sum_squares(const Queue& queue, const SumSquares& shape, const SumSquaresOperands& o) {
  if (shape.elements == 0) return;
  by_type(queue, "sum_squares", [&](auto zero) {
    using T = decltype(zero);
    by_step<T>(sixteen(0, sizeof(T), {o.x}), [&](auto step) {
      constexpr int kStep = decltype(step)::value;
      const unsigned blocks = blocks_for(shape.elements, kSumThreads * kSumPacks * kStep,
                                         context_of(queue).multiprocessors * kSumBlocksPerSm);
      auto* partial = static_cast<double*>(queue.workspace);
      sum_block<T, kStep><<<blocks, kSumThreads, 0, stream_of(queue)>>>(
          shape.elements, static_cast<const T*>(o.x), partial);
      IMHOTEP_LAUNCHED("sum_squares");
      add_sums<<<1, kSumThreads, 0, stream_of(queue)>>>(partial, static_cast<int>(blocks),
                                                        shape.scale, o.total);
      IMHOTEP_LAUNCHED("add_sums");
    });
  });
}

void clip_scale(const Queue& queue, const ClipScale& shape, const ClipScaleOperands& o) {
  clip<<<1, 1, 0, stream_of(queue)>>>(static_cast<double>(shape.limit), o);
  IMHOTEP_LAUNCHED("clip_scale");
}

namespace {

template <class T, int kStep, bool kMaster>
void launch_adamw(const Queue& queue, const AdamW& shape, const AdamWOperands& o) {
  if (shape.elements == 0) return;
  const unsigned blocks = blocks_for(shape.elements, kThreads * kStep, 0x7fffffff);
  adamw_elements<T, kStep, kMaster>
      <<<blocks, kThreads, 0, stream_of(queue)>>>(shape, o, step_of(o.hyper));
  IMHOTEP_LAUNCHED("adamw");
}

// Elements that fill accesses of 16 bytes, then the few after them.
template <class T, bool kMaster>
void adamw_of(const Queue& queue, const AdamW& shape, const AdamWOperands& o) {
  const bool aligned = sixteen(0, sizeof(T), {o.grad, o.weight, o.m, o.v, o.master});
  const std::int64_t most = aligned ? shape.elements - shape.elements % kLanes<T> : 0;
  launch_adamw<T, kLanes<T>, kMaster>(queue, {.elements = most, .decayed = shape.decayed}, o);
  AdamWOperands rest = o;
  rest.grad = static_cast<const T*>(o.grad) + most;
  rest.weight = static_cast<T*>(o.weight) + most;
  rest.m = static_cast<float*>(o.m) + most;
  rest.v = static_cast<float*>(o.v) + most;
  if (kMaster) rest.master = static_cast<float*>(o.master) + most;
  launch_adamw<T, 1, kMaster>(
      queue, {.elements = shape.elements - most, .decayed = shape.decayed - most}, rest);
}

}  // namespace

void adamw(const Queue& queue, const AdamW& shape, const AdamWOperands& o) {
  by_type(queue, "adamw", [&](auto zero) {
    using T = decltype(zero);
    if constexpr (sizeof(T) == sizeof(Bf16)) {
      if (o.master != nullptr) return adamw_of<T, true>(queue, shape, o);
    }
    adamw_of<T, false>(queue, shape, o);
  });
}

}  // namespace imhotep::kernels::cuda
