// A block a row, which it reads twice: once for both softmax sums and the teacher's expectation of
// the difference t - s, once for the gradient (the second time mostly from the second-level cache).
// With LSE the log of the sum of exponentials, the divergence of a row is
//   sum p (t - s) / tau + LSE(s / tau) - LSE(t / tau).
// Rows leave their divergence in the workspace and one block sums them.

#include "kernels/distill.h"
#include "kernels/softmax.cuh"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kSumThreads = 1024;

// The teacher's sum, and beside it the sum weighted with t - s.
struct TeacherSum {
  float high = -INFINITY, sum = 0, weighted = 0;

  template <int kStep>
  __device__ void add(const Lanes<kStep>& t, const Lanes<kStep>& s, float inverse_tau) {
    float most = t.at[0];
#pragma unroll
    for (int j = 1; j < kStep; ++j) most = fmaxf(most, t.at[j]);
    if (most > high) {
      const float by = expf((high - most) * inverse_tau);
      sum *= by;
      weighted *= by;
      high = most;
    }
    if (high == -INFINITY) return;
#pragma unroll
    for (int j = 0; j < kStep; ++j) {
      const float e = expf((t.at[j] - high) * inverse_tau);
      sum += e;
      if (e > 0) weighted += e * (t.at[j] - s.at[j]);
    }
  }
};

struct Factors {
  double tau;
  float gradient;  // beta tau scale
};

template <class T, int kStep>
__global__ void __launch_bounds__(kThreads)
    distill_row(std::int64_t cols, DistillOperands o, Factors by, double* divergence) {
  __shared__ float shared[5][kWarp];
  const std::int64_t row = blockIdx.x, at = row * cols;
  const T* s = static_cast<const T*>(o.student) + at;
  const T* t = static_cast<const T*>(o.teacher) + at;
  const float inverse = static_cast<float>(1 / by.tau);
  OnlineSum student;
  TeacherSum teacher;
  for (std::int64_t i = threadIdx.x * kStep; i < o.valid; i += kThreads * kStep) {
    const Lanes<kStep> of_s = masked<T, kStep>(s, i, o.valid),
                       of_t = masked<T, kStep>(t, i, o.valid);
    student.add<float>(of_s, inverse);
    teacher.add(of_t, of_s, inverse);
  }
  student = block_join<float>(student, shared[0], shared[1], inverse);
  const float high = block_max(teacher.high, shared[2]);
  const float rescale = teacher.high == -INFINITY ? 0.0F : expf((teacher.high - high) * inverse);
  const float sum = block_sum(teacher.sum * rescale, shared[3]);
  const float weighted = block_sum(teacher.weighted * rescale, shared[4]);
  if (threadIdx.x == 0) {
    const double difference =
        (static_cast<double>(student.high) - static_cast<double>(high)) / by.tau;
    divergence[row] = o.valid == 0
                          ? 0.0
                          : static_cast<double>(weighted) / static_cast<double>(sum) / by.tau +
                                difference + log(static_cast<double>(student.sum)) -
                                log(static_cast<double>(sum));
  }
  if (o.dstudent == nullptr) return;
  T* d = static_cast<T*>(o.dstudent) + at;
  const float of_q = by.gradient / student.sum, of_p = by.gradient / sum;
  for (std::int64_t i = threadIdx.x * kStep; i < cols; i += kThreads * kStep) {
    Lanes<kStep> x = {};
    if (o.accumulate) x = load_lanes<T, kStep>(d + i);
    const Lanes<kStep> of_s = load_lanes<T, kStep>(s + i), of_t = load_lanes<T, kStep>(t + i);
#pragma unroll
    for (int j = 0; j < kStep; ++j) {
      const float slope = of_q * expf((of_s.at[j] - student.high) * inverse) -
                          of_p * expf((of_t.at[j] - high) * inverse);
      if (i + j < o.valid) x.at[j] += slope;
    }
    store_lanes<T, kStep>(d + i, x);
  }
}

__global__ void __launch_bounds__(kSumThreads)
    add_divergences(std::int64_t rows, const double* divergence, double factor, double* loss) {
  __shared__ double shared[kWarp];
  double sum = 0;
  for (std::int64_t row = threadIdx.x; row < rows; row += kSumThreads) sum += divergence[row];
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) *loss += factor * sum;
}

}  // namespace

void distill(const Queue& queue, const Distill& shape, const DistillOperands& o) {
  if (shape.rows == 0) return;
  auto* divergence = static_cast<double*>(queue.workspace);
  expect(shape.rows * static_cast<std::int64_t>(sizeof(double)) <= queue.workspace_bytes, "distill",
         "more rows than the workspace holds");
  const auto tau = static_cast<double>(shape.temperature);
  const double factor = static_cast<double>(shape.beta) * tau * o.scale;
  by_type(queue, "distill", [&](auto zero) {
    using T = decltype(zero);
    by_step<T>(sixteen(shape.cols, sizeof(T), {o.student, o.teacher, o.dstudent}), [&](auto step) {
      distill_row<T, decltype(step)::value>
          <<<static_cast<unsigned>(shape.rows), kThreads, 0, stream_of(queue)>>>(
              shape.cols, o, {.tau = tau, .gradient = static_cast<float>(factor)}, divergence);
      IMHOTEP_LAUNCHED("distill");
    });
  });
  add_divergences<<<1, kSumThreads, 0, stream_of(queue)>>>(shape.rows, divergence, factor * tau,
                                                           o.loss);
  IMHOTEP_LAUNCHED("add_divergences");
}

}  // namespace imhotep::kernels::cuda
