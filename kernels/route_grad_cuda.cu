// The way back through weights, balance loss and softmax to the logits: one pass over the
// probabilities, a group of lanes a token (expert_row.cuh), the balance term in registers.

#include "kernels/expert_row.cuh"
#include "kernels/route_cuda.cuh"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocksOfAUnit = 4;  // on a multiprocessor

struct GradTask {
  const float* probs = nullptr;
  const std::int32_t* expert = nullptr;
  const float* weight = nullptr;
  const float* d_weight = nullptr;
  const float* stats = nullptr;
  float* d_logits = nullptr;
  double balance_scale = 0;  // 0: no balance loss, stats may be null
  std::int64_t tokens = 0;
  int experts = 0, k = 1;
  bool vector = false;
};

// What the weights of one token add to d_probs of its experts: factor[c] = (d_weight - mean) / sum.
struct WeightGrad {
  float mean = 0, divisor = 1;
};
__device__ WeightGrad weight_grad(const GradTask& task, std::int64_t t, const float* probs) {
  if (task.k == 1) return {};
  const std::int64_t r = t * task.k;
  float sum = 0, mean = 0;
  for (int c = 0; c < task.k; ++c) {
    const int e = task.expert[r + c];
    if (e >= 0) sum += probs[e];
    mean += task.weight[r + c] * task.d_weight[r + c];
  }
  return {sum < kRouteEpsilon ? 0.0F : mean, fmaxf(sum, kRouteEpsilon)};
}

template <class Row>
__global__ void __launch_bounds__(kThreads) grad_of_logits(GradTask task) {
  wait_for_previous();
  constexpr int kGroups = kThreads / Row::kLanes;
  float balance[Row::kValues];
#pragma unroll
  for (int v = 0; v < Row::kValues; ++v) {
    const int e = Row::expert(v);
    const bool counts = task.balance_scale != 0 && e < task.experts;
    balance[v] =
        counts ? static_cast<float>(task.balance_scale * static_cast<double>(task.stats[e])) : 0;
  }
  const std::int64_t stride = std::int64_t{gridDim.x} * kGroups;
  for (std::int64_t first = std::int64_t{blockIdx.x} * kGroups; first < task.tokens;
       first += stride) {
    const std::int64_t t = first + threadIdx.x / Row::kLanes;
    const bool live = t < task.tokens;
    const std::int64_t row = t * task.experts;
    float probs[Row::kValues], d_probs[Row::kValues];
    Row::load(task.probs + row, live ? task.experts : 0, task.vector, 0, probs);
#pragma unroll
    for (int v = 0; v < Row::kValues; ++v) d_probs[v] = balance[v];
    if (live) {
      const WeightGrad grad = weight_grad(task, t, task.probs + row);
      for (int c = 0; c < task.k; ++c) {
        const int e = task.expert[t * task.k + c];
        const float d = (task.d_weight[t * task.k + c] - grad.mean) / grad.divisor;
#pragma unroll
        for (int v = 0; v < Row::kValues; ++v) {
          if (e >= 0 && Row::expert(v) == e) d_probs[v] += d;
        }
      }
    }
    float mean = 0;
#pragma unroll
    for (int v = 0; v < Row::kValues; ++v) mean += probs[v] * d_probs[v];
    mean = Row::sum(mean);
#pragma unroll
    for (int v = 0; v < Row::kValues; ++v) d_probs[v] = probs[v] * (d_probs[v] - mean);
    if (live) Row::store(task.d_logits + row, task.experts, task.vector, d_probs);
  }
}

template <class Row>
void grad_rows(const Queue& queue, const GradTask& task) {
  const std::int64_t most = std::int64_t{kBlocksOfAUnit} * context_of(queue).multiprocessors;
  const std::int64_t blocks = std::min(ceil_div(task.tokens * Row::kLanes, kThreads), most);
  launch_next(queue, {.name = "launch route_grad", .blocks = blocks, .threads = kThreads},
              grad_of_logits<Row>, task);
}

}  // namespace

void route_grad(const Queue& queue, const RouteGrad& shape, const RouteGradOperands& operands) {
  if (shape.tokens == 0) return;
  const double choices = shape.k > 2 ? static_cast<double>(shape.k) : 1.0;
  double scale = 0;
  if (shape.aux_scale != 0) {
    scale = shape.aux_scale * static_cast<double>(shape.experts) /
            (choices * shape.tokens_counted * shape.tokens_counted);
  }
  const GradTask task{.probs = static_cast<const float*>(operands.probs),
                      .expert = operands.expert,
                      .weight = static_cast<const float*>(operands.weight),
                      .d_weight = static_cast<const float*>(operands.d_weight),
                      .stats = static_cast<const float*>(operands.stats),
                      .d_logits = static_cast<float*>(operands.d_logits),
                      .balance_scale = scale,
                      .tokens = shape.tokens,
                      .experts = static_cast<int>(shape.experts),
                      .k = static_cast<int>(shape.k),
                      .vector = rows_align(shape.experts, operands.probs, operands.d_logits)};
  by_experts(shape.experts, [&](auto row) { grad_rows<std::decay_t<decltype(row)>>(queue, task); });
}

}  // namespace imhotep::kernels::cuda
