#pragma once
// What the decode stack's kernel is told, and its shared memory. Only for decode_stack_cuda.cu.

#include "kernels/attention_cached_walk.cuh"
#include "kernels/decode_stack.cuh"

namespace imhotep::kernels::cuda {

inline constexpr int kLaunchLayers = 48;  // of one launch: its parameters take 11 KB of 32
inline constexpr int kStackSplits = 8;    // most parts of a row's positions
inline constexpr int kPartialPad = 4;     // floats after a partial's sums: highest score, total

struct StackLayer {
  const Bf16 *gain1, *shift1, *qkv, *qkv_bias, *proj, *proj_bias, *gain2, *shift2;
  const Bf16 *up, *up_bias, *down, *down_bias;
  const float *gate, *coefficient, *coefficient_bias, *noise;
  const Bf16 *experts_up, *experts_up_bias, *experts_down, *experts_down_bias;
  std::int32_t* expert;
  float *weight, *stats;
  Bf16 *k_pages, *v_pages;
  int ffn, experts, k, residual;
};

struct StackTask {
  StackLayer layers[kLaunchLayers];
  paged::Cached<Bf16> cached;  // pages are those of the layer at hand
  const std::int32_t* used;
  const Bf16* x;
  Bf16* y;
  // In the workspace:
  unsigned* arrivals;
  Bf16 *qkv, *between, *attended, *mlp_hidden, *expert_hidden;
  float *partials, *logits, *coefficients;
  int count, tokens, hidden, splits, slots;
  int narrow, wide, affine, sums, kept, shared, barriers;  // offsets into shared memory
};

struct StackShared {
  int length[kStackColumns], sequence[kStackColumns];
  float mix[kStackColumns][2], high[kStackColumns], inverse[kStackColumns];
  float weight[kStackColumns];
  int expert[kStackColumns];        // of a route, -1 = none
  int list[kStackColumns], listed;  // distinct experts
  float gate_sums[kConsumerWarps][kStackColumns];
  paged::Fresh fresh;
};

// A layer's stage at a consumer: everything the stages share.
struct StackBlock {
  const StackTask& task;
  unsigned char* memory;
  StackShared& shared;
  StackRing ring;
  GridBarrier grid;

  [[nodiscard]] __device__ std::uint32_t address(int offset) const {
    return shared_address(memory + offset);
  }
  [[nodiscard]] __device__ float* floats(int offset) const {
    return reinterpret_cast<float*>(memory + offset);
  }
  [[nodiscard]] __device__ StackActs narrow() const {
    return {address(task.narrow), task.hidden, task.tokens};
  }
};

}  // namespace imhotep::kernels::cuda
