// A block a row, 16 bytes an access. The statistics are made in one pass: every thread keeps a
// maximum and a sum relative to it, and the block joins them. The loss is summed by one block from
// the log probabilities, so that its order never changes.

#include "kernels/cross_entropy.h"
#include "kernels/softmax.cuh"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kSumThreads = 1024;
constexpr int kAhead = 4;  // loads in flight of a thread

// Accesses i, i + kThreads * kStep, ... of a row.
template <class T, int kStep>
__device__ inline void load_ahead(Raw<T, kStep> (&raw)[kAhead], const T* row, std::int64_t i,
                                  std::int64_t end) {
#pragma unroll
  for (int r = 0; r < kAhead; ++r) {
    const std::int64_t at = i + r * kThreads * kStep;
    if (at < end) raw[r] = load_raw<T, kStep>(row + at);
  }
}

template <class T, int kStep>
__global__ void __launch_bounds__(kThreads)
    stats_of_row(SoftmaxStats shape, SoftmaxStatsOperands o, FaultRecord* fault) {
  __shared__ float shared[2][kWarp];
  const std::int64_t row = blockIdx.x;
  const std::int64_t valid = valid_columns(shape.valid - shape.vocab_begin, shape.cols);
  const T* x = static_cast<const T*>(o.logits) + row * shape.cols;
  OnlineSum sum;
  for (std::int64_t i = threadIdx.x * kStep; i < valid; i += kAhead * kThreads * kStep) {
    Raw<T, kStep> raw[kAhead];
    load_ahead<T, kStep>(raw, x, i, valid);
#pragma unroll
    for (int r = 0; r < kAhead; ++r) {
      const std::int64_t at = i + r * kThreads * kStep;
      if (at < valid) sum.add<T>(masked(raw[r].lanes(), at, valid));
    }
  }
  sum = block_join<T>(sum, shared[0], shared[1]);
  if (threadIdx.x != 0) return;
  const std::int64_t target = o.targets[row], local = target - shape.vocab_begin;
  if (target >= shape.valid) report_fault(fault, Fault::TargetOutOfRange, target, shape.valid);
  float* stats = static_cast<float*>(o.stats) + 3 * row;
  stats[0] = sum.high;
  stats[1] = sum.sum;
  stats[2] = target >= 0 && local >= 0 && local < valid ? to_float(x[local]) : 0.0F;
}

struct Target {
  float logit, lse;  // lse: log of the sum of all exponentials
};

__device__ inline Target combine_parts(const float* stats, std::int64_t parts, std::int64_t step) {
  float high = stats[0];
  for (std::int64_t part = 1; part < parts; ++part) high = fmaxf(high, stats[part * step]);
  float sum = 0, logit = 0;
  for (std::int64_t part = 0; part < parts; ++part) {
    sum += stats[part * step + 1] * expf(stats[part * step] - high);
    logit += stats[part * step + 2];
  }
  return {logit, high + logf(sum)};
}

template <class T, int kStep>
__global__ void __launch_bounds__(kThreads)
    gradient_of_row(CrossEntropy shape, CrossEntropyOperands o) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t valid = valid_columns(shape.valid - shape.vocab_begin, shape.cols);
  const std::int64_t target = o.targets[row], local = target - shape.vocab_begin;
  T* logits = static_cast<T*>(o.logits) + row * shape.cols;
  const Target found =
      combine_parts(static_cast<const float*>(o.stats) + 3 * row, shape.parts, 3 * shape.rows);
  if (threadIdx.x == 0) {
    static_cast<float*>(o.logprob)[row] = target < 0 ? 0.0F : found.logit - found.lse;
  }
  const float scale = static_cast<float>(o.scale);
  const std::int64_t counted = target < 0 ? 0 : valid;
  for (std::int64_t i = threadIdx.x * kStep; i < shape.cols; i += kAhead * kThreads * kStep) {
    Raw<T, kStep> raw[kAhead];
    load_ahead<T, kStep>(raw, logits, i, shape.cols);
#pragma unroll
    for (int r = 0; r < kAhead; ++r) {
      const std::int64_t at = i + r * kThreads * kStep;
      if (at >= shape.cols) continue;
      Lanes<kStep> x = raw[r].lanes();
#pragma unroll
      for (int j = 0; j < kStep; ++j) {
        const float slope = scale * exponential<T>(x.at[j] - found.lse);
        x.at[j] = at + j >= counted ? 0.0F : at + j == local ? slope - scale : slope;
      }
      store_lanes<T, kStep>(logits + at, x);
    }
  }
}

__global__ void __launch_bounds__(kThreads) logprobs(CrossEntropy shape, CrossEntropyOperands o) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= shape.rows) return;
  const Target found =
      combine_parts(static_cast<const float*>(o.stats) + 3 * row, shape.parts, 3 * shape.rows);
  static_cast<float*>(o.logprob)[row] = o.targets[row] < 0 ? 0.0F : found.logit - found.lse;
}

__global__ void __launch_bounds__(kSumThreads)
    subtract_logprobs(std::int64_t rows, const float* logprob, double* loss_sum) {
  __shared__ double shared[kWarp];
  double sum = 0;
#pragma unroll 4
  for (std::int64_t row = threadIdx.x; row < rows; row += kSumThreads) {
    sum += static_cast<double>(logprob[row]);
  }
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) *loss_sum -= sum;
}

}  // namespace

void softmax_stats(const Queue& queue, const SoftmaxStats& shape, const SoftmaxStatsOperands& o) {
  if (shape.rows == 0) return;
  by_type(queue, "softmax_stats", [&](auto zero) {
    using T = decltype(zero);
    by_step<T>(sixteen(shape.cols, sizeof(T), {o.logits}), [&](auto step) {
      stats_of_row<T, decltype(step)::value>
          <<<static_cast<unsigned>(shape.rows), kThreads, 0, stream_of(queue)>>>(shape, o,
                                                                                 queue.fault);
      IMHOTEP_LAUNCHED("softmax_stats");
    });
  });
}

void cross_entropy(const Queue& queue, const CrossEntropy& shape, const CrossEntropyOperands& o) {
  if (shape.rows == 0) return;
  if (shape.gradient) {
    by_type(queue, "cross_entropy", [&](auto zero) {
      using T = decltype(zero);
      by_step<T>(sixteen(shape.cols, sizeof(T), {o.logits}), [&](auto step) {
        gradient_of_row<T, decltype(step)::value>
            <<<static_cast<unsigned>(shape.rows), kThreads, 0, stream_of(queue)>>>(shape, o);
        IMHOTEP_LAUNCHED("cross_entropy");
      });
    });
  } else {
    logprobs<<<blocks_for(shape.rows, kThreads, 0x7fffffff), kThreads, 0, stream_of(queue)>>>(shape,
                                                                                              o);
    IMHOTEP_LAUNCHED("logprobs");
  }
  subtract_logprobs<<<1, kSumThreads, 0, stream_of(queue)>>>(
      shape.rows, static_cast<const float*>(o.logprob), o.loss_sum);
  IMHOTEP_LAUNCHED("subtract_logprobs");
}

}  // namespace imhotep::kernels::cuda
