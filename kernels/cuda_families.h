#pragma once
// The CUDA form of every kernel family: functions of libimhotep_cuda.so, reached through a table.
// A missing entry means that the family has no CUDA form yet; its dispatch then says so.

#include "kernels/attention.h"
#include "kernels/attention_cached.h"
#include "kernels/combine.h"
#include "kernels/cross_entropy.h"
#include "kernels/dispatch.h"
#include "kernels/distill.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/few_experts.h"
#include "kernels/gemm.h"
#include "kernels/grouped_gemm.h"
#include "kernels/initialize.h"
#include "kernels/layer_norm.h"
#include "kernels/norm_gate.h"
#include "kernels/norm_gemm.h"
#include "kernels/residual_mix.h"
#include "kernels/route.h"
#include "kernels/sample.h"
#include "kernels/update.h"

namespace imhotep::kernels {

template <class Shape, class Operands>
using CudaFamily = void (*)(const Queue& queue, const Shape& shape, const Operands& operands);

struct CudaFamilies {
  CudaFamily<LayerNorm, LayerNormOperands> layer_norm = nullptr;
  CudaFamily<LayerNormGrad, LayerNormGradOperands> layer_norm_grad = nullptr;
  CudaFamily<Gemm, GemmOperands> gemm = nullptr;
  CudaFamily<ColumnSum, ColumnSumOperands> column_sum = nullptr;
  CudaFamily<Add, AddOperands> add = nullptr;
  CudaFamily<Fill, FillOperands> fill = nullptr;
  CudaFamily<Embedding, EmbeddingOperands> embedding = nullptr;
  CudaFamily<EmbeddingGrad, EmbeddingGradOperands> embedding_grad = nullptr;
  CudaFamily<Attention, AttentionOperands> attention = nullptr;
  CudaFamily<AttentionGrad, AttentionGradOperands> attention_grad = nullptr;
  CudaFamily<AttentionCached, AttentionCachedOperands> attention_cached = nullptr;
  CudaFamily<Route, RouteOperands> route = nullptr;
  CudaFamily<RouteGrad, RouteGradOperands> route_grad = nullptr;
  CudaFamily<PackOrder, PackOrderOperands> pack_order = nullptr;
  CudaFamily<ReceiveOrder, ReceiveOrderOperands> receive_order = nullptr;
  CudaFamily<GatherRows, GatherRowsOperands> gather_rows = nullptr;
  CudaFamily<ScatterSum, ScatterSumOperands> scatter_sum = nullptr;
  CudaFamily<Combine, CombineOperands> combine = nullptr;
  CudaFamily<CombineGrad, CombineGradOperands> combine_grad = nullptr;
  CudaFamily<GroupedGemm, GroupedGemmOperands> grouped_gemm = nullptr;
  CudaFamily<GroupedColumnSum, GroupedColumnSumOperands> grouped_column_sum = nullptr;
  CudaFamily<ResidualMix, ResidualMixOperands> residual_mix = nullptr;
  CudaFamily<ResidualMixGrad, ResidualMixGradOperands> residual_mix_grad = nullptr;
  CudaFamily<SoftmaxStats, SoftmaxStatsOperands> softmax_stats = nullptr;
  CudaFamily<CrossEntropy, CrossEntropyOperands> cross_entropy = nullptr;
  CudaFamily<Distill, DistillOperands> distill = nullptr;
  CudaFamily<Sample, SampleOperands> sample = nullptr;
  CudaFamily<SumSquares, SumSquaresOperands> sum_squares = nullptr;
  CudaFamily<ClipScale, ClipScaleOperands> clip_scale = nullptr;
  CudaFamily<AdamW, AdamWOperands> adamw = nullptr;
  CudaFamily<NormGemm, NormGemmOperands> norm_gemm = nullptr;
  CudaFamily<NormGate, NormGateOperands> norm_gate = nullptr;
  CudaFamily<FewExpertsUp, FewExpertsUpOperands> few_experts_up = nullptr;
  CudaFamily<FewExpertsDown, FewExpertsDownOperands> few_experts_down = nullptr;
  CudaFamily<Initialize, InitializeOperands> initialize = nullptr;
};

}  // namespace imhotep::kernels
