#pragma once
// The routed part of a block inside the decode stack. Every thread block chooses the experts for
// itself from the logits, a warp a token, and tells its producer. Only for decode_stack_cuda.cu.

#include <cfloat>

#include "kernels/decode_stack_task.cuh"

namespace imhotep::kernels::cuda {

inline constexpr int kGateLoads = 4;   // float4 of a gate row that a thread holds
inline constexpr int kLaneLogits = 8;  // of a token, at a lane

struct GateRow {
  float4 weight[kGateLoads];

  // Row `output` of the gate, or of the coefficient behind it.
  __device__ void fetch(const StackLayer& l, int output, int hidden) {
    const float* from =
        output < l.experts ? l.gate + static_cast<std::int64_t>(output) * hidden
                           : l.coefficient + static_cast<std::int64_t>(output - l.experts) * hidden;
#pragma unroll
    for (int i = 0; i < kGateLoads; ++i) {
      const int at = (static_cast<int>(threadIdx.x) + i * kConsumers) * 4;
      weight[i] =
          at < hidden ? *reinterpret_cast<const float4*>(from + at) : make_float4(0, 0, 0, 0);
    }
  }
};
[[nodiscard]] __device__ inline int gate_outputs(const StackLayer& l) {
  return l.experts + (l.residual != 0 ? 2 : 0);
}

// Logits of the normalised rows in the narrow activations. `row` holds this block's first output.
__device__ inline void gate(StackBlock& b, const StackLayer& l, GateRow& row) {
  const StackTask& t = b.task;
  const int thread = static_cast<int>(threadIdx.x), outputs = gate_outputs(l);
  for (int output = static_cast<int>(blockIdx.x); output < outputs; output += gridDim.x) {
    if (output != static_cast<int>(blockIdx.x)) row.fetch(l, output, t.hidden);
    for (int token = 0; token < t.tokens; ++token) {
      const unsigned char* x = b.memory + t.narrow + token * stack_pitch(t.hidden);
      float sum = 0;
#pragma unroll
      for (int i = 0; i < kGateLoads; ++i) {
        const int at = (thread + i * kConsumers) * 4;
        if (at >= t.hidden) continue;
        const auto v = *reinterpret_cast<const uint2*>(x + at * 2);
        const float2 low = unpack(v.x), high = unpack(v.y);
        const float4 w = row.weight[i];
        sum += (w.x * low.x + w.y * low.y) + (w.z * high.x + w.w * high.y);
      }
      sum = warp_sum(sum);
      if (lane_id() == 0) b.shared.gate_sums[consumer_warp()][token] = sum;
    }
    consumers_sync();
    if (thread < t.tokens) {
      float sum = 0;
#pragma unroll
      for (int w = 0; w < kConsumerWarps; ++w) sum += b.shared.gate_sums[w][thread];
      if (output < l.experts) {
        const int at = thread * l.experts + output;
        t.logits[at] = l.noise == nullptr ? sum : sum + l.noise[at];
      } else {
        const int which = output - l.experts;
        t.coefficients[thread * 2 + which] = sum + l.coefficient_bias[which];
      }
    }
    consumers_sync();
  }
}

// The k largest logits of a token in falling order, the lower expert first where equal, by a warp.
__device__ inline void choose_token(StackBlock& b, const StackLayer& l, int token) {
  const StackTask& t = b.task;
  const int lane = lane_id();
  float v[kLaneLogits], most = -INFINITY, sum = 0;
#pragma unroll
  for (int j = 0; j < kLaneLogits; ++j) {
    const int e = lane + j * kWarp;
    v[j] = e < l.experts ? __ldcg(t.logits + token * l.experts + e) : -INFINITY;
  }
  float mix[2] = {0, 0};
  if (l.residual != 0) {
    mix[0] = __ldcg(t.coefficients + 2 * token);
    mix[1] = __ldcg(t.coefficients + 2 * token + 1);
  }
  const bool takes_part = t.used == nullptr || t.used[token] != 0;
#pragma unroll
  for (int j = 0; j < kLaneLogits; ++j) most = fmaxf(most, v[j]);
  most = warp_max(most);
#pragma unroll
  for (int j = 0; j < kLaneLogits; ++j) {
    if (lane + j * kWarp < l.experts) sum += expf(v[j] - most);
  }
  const float inverse = 1.0F / warp_sum(sum);
  float last = INFINITY, chosen = 0;
  int last_expert = -1;
  for (int c = 0; c < l.k; ++c) {
    float best = -INFINITY;
    int best_expert = INT_MAX;
#pragma unroll
    for (int j = 0; j < kLaneLogits; ++j) {
      const int e = lane + j * kWarp;
      const float x = v[j] == v[j] ? v[j] : -INFINITY;
      const bool behind = e < l.experts && (x < last || (x == last && e > last_expert));
      if (behind && (x > best || best_expert == INT_MAX)) {
        best = x;
        best_expert = e;
      }
    }
    for (int step = 1; step < kWarp; step *= 2) {
      const float other = __shfl_xor_sync(0xffffffffU, best, step);
      const int other_expert = __shfl_xor_sync(0xffffffffU, best_expert, step);
      if (other > best || (other == best && other_expert < best_expert)) {
        best = other;
        best_expert = other_expert;
      }
    }
    last = best;
    last_expert = best_expert;
    const float probability = takes_part ? expf(best - most) * inverse : 0.0F;
    chosen += probability;
    if (lane == 0) {
      b.shared.expert[token * l.k + c] = takes_part ? best_expert : -1;
      b.shared.weight[token * l.k + c] = probability;
    }
  }
  if (lane != 0) return;
  const float divisor = l.k == 1 ? 1.0F : fmaxf(chosen, FLT_EPSILON);
  for (int c = 0; c < l.k; ++c) b.shared.weight[token * l.k + c] /= divisor;
  b.shared.high[token] = most;
  b.shared.inverse[token] = inverse;
  b.shared.mix[token][0] = l.residual != 0 ? 1.0F / (1.0F + expf(mix[1] - mix[0])) : 1.0F;
  b.shared.mix[token][1] = l.residual != 0 ? 1.0F / (1.0F + expf(mix[0] - mix[1])) : 0.0F;
}

// Ends with a barrier; `routed` lets the producer go on.
__device__ inline void choose(StackBlock& b, const StackLayer& l, std::uint32_t routed) {
  if (consumer_warp() < b.task.tokens) choose_token(b, l, consumer_warp());
  consumers_sync();
  if (threadIdx.x == 0) {
    int listed = 0;
    for (int r = 0; r < b.task.tokens * l.k; ++r) {
      const int expert = b.shared.expert[r];
      bool known = expert < 0;
      for (int i = 0; i < listed; ++i) known = known || b.shared.list[i] == expert;
      if (!known) b.shared.list[listed++] = expert;
    }
    b.shared.listed = listed;
    barrier_arrive(routed);
  }
  consumers_sync();
}

// Routes, weights and balance statistics for whoever reads them later, by one block.
__device__ inline void write_routes(const StackBlock& b, const StackLayer& l) {
  const int thread = static_cast<int>(threadIdx.x), routes = b.task.tokens * l.k;
  if (thread < routes) {
    l.expert[thread] = b.shared.expert[thread];
    l.weight[thread] = b.shared.weight[thread];
  }
  const int step = l.k == 2 ? 2 : 1;  // with two choices only the first counts for the balance
  for (int e = thread; e < l.experts; e += kConsumers) {
    float probability = 0;
    int count = 0;
    for (int i = 0; i < b.task.tokens; ++i) {
      const float logit = __ldcg(b.task.logits + i * l.experts + e);
      probability += expf(logit - b.shared.high[i]) * b.shared.inverse[i];
    }
    for (int r = 0; r < routes; r += step) count += b.shared.expert[r] == e ? 1 : 0;
    l.stats[e] = static_cast<float>(count);
    l.stats[l.experts + e] = probability;
  }
}

// Everything of a MoE block behind attention; x1 is its input, y its output.
__device__ inline void routed_block(StackBlock& b, const StackLayer& l, const Bf16* x1, Bf16* y,
                                    std::uint32_t routed) {
  const StackTask& t = b.task;
  const int thread = static_cast<int>(threadIdx.x), h = t.hidden, f = l.ffn;
  const StackShare rows(h);
  float* sums = b.floats(t.sums);
  float* mlp = b.floats(t.kept);
  float* moe = mlp + kGroupRows * kStackColumns;

  GateRow row;
  if (static_cast<int>(blockIdx.x) < gate_outputs(l)) {
    row.fetch(l, static_cast<int>(blockIdx.x), h);
  }
  fetch_norm(b.address(t.affine), l.gain2, l.shift2, h);
  b.grid.wait();
  norm_to_shared(b.address(t.narrow), b.address(t.affine), x1, t.tokens, h);
  gate(b, l, row);
  if (l.residual != 0) {
    multiply(
        b.ring, b.narrow(), sums, f, [&](int r, int) { return to_float(l.up_bias[r]); },
        [&](int r, int column, float sum, float bias) {
          t.mlp_hidden[column * f + r] = from_float<Bf16>(gelu(sum + bias));
        });
  }
  b.grid.arrive();
  b.grid.wait();

  choose(b, l, routed);
  const std::uint32_t wide = b.address(t.wide);
  if (l.residual != 0) {
    rows_to_shared(wide, t.mlp_hidden, t.tokens, f);
    multiply(
        b.ring, {wide, f, t.tokens}, sums, h, [&](int r, int) { return to_float(l.down_bias[r]); },
        [&](int r, int column, float sum, float bias) {
          mlp[(r - rows.begin) * kStackColumns + column] = sum + bias;
        });
  }
  const int routes = t.tokens * l.k, listed = b.shared.listed;
  for (int i = 0; i < listed; ++i) {
    const int expert = b.shared.list[i];
    const Bf16* biases = l.experts_up_bias + static_cast<std::int64_t>(expert) * f;
    multiply(
        b.ring, {b.address(t.narrow), h, routes, l.k}, sums, f,
        [&](int r, int) { return to_float(biases[r]); },
        [&](int r, int column, float sum, float bias) {
          if (b.shared.expert[column] != expert) return;
          t.expert_hidden[column * f + r] = from_float<Bf16>(gelu(sum + bias));
        });
  }
  b.grid.arrive();
  if (blockIdx.x + 1 == gridDim.x) write_routes(b, l);
  constexpr int kEach = kGroupRows * kStackColumns / kConsumers;
  float x[kEach];  // element (row, token) of the block's rows, as the sums lie in shared memory
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int e = thread + i * kConsumers, at = rows.begin + e / kStackColumns;
    const bool valid = at < rows.end && e % kStackColumns < t.tokens;
    x[i] = valid ? to_float(x1[e % kStackColumns * h + at]) : 0.0F;
  }
  b.grid.wait();

  rows_to_shared(wide, t.expert_hidden, routes, f);
  for (int i = 0; i < listed; ++i) {
    const int expert = b.shared.list[i];
    const Bf16* biases = l.experts_down_bias + static_cast<std::int64_t>(expert) * h;
    multiply(
        b.ring, {wide, f, routes}, sums, h, [&](int r, int) { return to_float(biases[r]); },
        [&](int r, int column, float sum, float bias) {
          if (b.shared.expert[column] != expert) return;
          moe[(r - rows.begin) * kStackColumns + column] = sum + bias;
        });
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int e = thread + i * kConsumers, at = rows.begin + e / kStackColumns,
              token = e % kStackColumns;
    if (at >= rows.end || token >= t.tokens) continue;
    const float* own = moe + e - token;
    float sum = 0;
    for (int c = token * l.k; c < (token + 1) * l.k; ++c) {
      if (b.shared.expert[c] >= 0) sum += b.shared.weight[c] * own[c];
    }
    float total = x[i] + b.shared.mix[token][0] * sum;
    if (l.residual != 0) total += b.shared.mix[token][1] * mlp[e];
    y[token * h + at] = from_float<Bf16>(total);
  }
}

}  // namespace imhotep::kernels::cuda
