// The feed-forward half of a block:  y = x + mlp(norm(x)), or with experts
// y = x + moe(norm(x)), or with a residual branch y = x + c0·moe(norm(x)) + c1·mlp(norm(x)).
// Tensor slicing cuts the feed-forward width; partial results are summed over the tensor group,
// and only tensor index 0 adds the bias and the residual.

#include "core/program/builder.h"

namespace imhotep::program {

// residual: the stream added to the result, or an invalid operand (residual branch of experts).
Operand mlp_forward(Builder& b, Operand n, Operand residual, MlpKept& kept) {
  kept.n = n;
  kept.pre = b.data("mlp_pre", b.T * b.f);
  kept.hidden = b.data("mlp_hidden", b.T * b.f);
  b.op("mlp_up",
       Gemm{.m = b.T, .n = b.f, .k = b.h, .transpose_b = true, .epilogue = Epilogue::BiasGelu},
       {n, b.weight(TensorRole::UpWeight), b.weight(TensorRole::UpBias)}, {kept.hidden, kept.pre});
  const Operand y = b.data("mlp_out", b.T * b.h);
  const bool adds = b.t_index == 0;
  const Epilogue epilogue = !adds              ? Epilogue::None
                            : residual.valid() ? Epilogue::BiasResidual
                                               : Epilogue::Bias;
  b.op("mlp_down", Gemm{.m = b.T, .n = b.h, .k = b.f, .transpose_b = true, .epilogue = epilogue},
       {kept.hidden, b.weight(TensorRole::DownWeight),
        adds ? b.weight(TensorRole::DownBias) : Operand{}, adds ? residual : Operand{}},
       {y});
  b.all_reduce("mlp_sum", y, b.T * b.h, b.tensor_peers());
  return y;
}

// dn = gradient of the normed input (written, not accumulated).
void mlp_backward(Builder& b, Operand dy, const MlpKept& kept, Operand dn) {
  const std::int64_t T = b.T, h = b.h, f = b.f;
  b.weight_grad("mlp_down_weight_grad", {.m = h, .n = f, .k = T}, {dy, kept.hidden},
                {b.gradient(TensorRole::DownWeight), b.gradient(TensorRole::DownBias)});
  const Operand d_hidden = b.data("d_mlp_hidden", T * f);
  b.op("mlp_down_input_grad", Gemm{.m = T, .n = f, .k = h, .epilogue = Epilogue::GeluGrad},
       {dy, b.weight(TensorRole::DownWeight), {}, {}, kept.pre}, {d_hidden});
  b.weight_grad("mlp_up_weight_grad", {.m = f, .n = h, .k = T}, {d_hidden, kept.n},
                {b.gradient(TensorRole::UpWeight), b.gradient(TensorRole::UpBias)});
  b.op("mlp_up_input_grad", Gemm{.m = T, .n = h, .k = f},
       {d_hidden, b.weight(TensorRole::UpWeight)}, {dn});
  b.all_reduce("mlp_input_grad_sum", dn, T * h, b.tensor_peers());
}

namespace {

void normed(Builder& b, Operand x, BlockKept& kept) {
  kept.x = x;
  kept.n = b.data("n2", b.T * b.h);
  kept.mean = b.wides("mean2", b.T);
  kept.rstd = b.wides("rstd2", b.T);
  b.op("ln2", LayerNorm{b.T, b.h},
       {x, b.weight(TensorRole::Ln2Gain), b.weight(TensorRole::Ln2Bias)},
       {kept.n, kept.mean, kept.rstd});
}

void coefficient_forward(Builder& b, BlockKept& kept) {
  kept.coefficient = b.wides("coefficient", b.T * 2);
  b.op("coefficient",
       Gemm{.m = b.T,
            .n = 2,
            .k = b.h,
            .transpose_b = true,
            .epilogue = Epilogue::Bias,
            .wide = true,
            .wide_b = true},
       {kept.n, b.weight(TensorRole::CoefficientWeight), b.weight(TensorRole::CoefficientBias)},
       {kept.coefficient});
}

void coefficient_backward(Builder& b, const BlockKept& kept, Operand d_logits, Operand dn) {
  b.op("coefficient_bias_grad", ColumnSum{b.T, 2}, {d_logits},
       {b.gradient(TensorRole::CoefficientBias)});
  b.op("coefficient_weight_grad",
       Gemm{.m = 2,
            .n = b.h,
            .k = b.T,
            .transpose_a = true,
            .accumulate = b.accumulate,
            .wide = true,
            .wide_a = true},
       {d_logits, kept.n}, {b.gradient(TensorRole::CoefficientWeight)});
  b.op("coefficient_input_grad",
       Gemm{.m = b.T, .n = b.h, .k = 2, .accumulate = true, .wide_a = true, .wide_b = true},
       {d_logits, b.weight(TensorRole::CoefficientWeight)}, {dn});
}

}  // namespace

Operand mlp_block_forward(Builder& b, Operand x, BlockKept& kept, bool training, Operand stats) {
  normed(b, x, kept);
  const MoeLayerPlan* moe = b.plan.moe(b.layer);
  if (moe == nullptr) return mlp_forward(b, kept.n, x, kept.mlp);
  if (!b.model.residual) {
    const Operand y = routed_forward(b, kept.n, kept.routed, training, stats);
    b.op("moe_residual", Add{b.T * b.h}, {x}, {y});
    return y;
  }
  kept.moe_out = routed_forward(b, kept.n, kept.routed, training, stats);
  kept.mlp_out = mlp_forward(b, kept.n, {}, kept.mlp);
  coefficient_forward(b, kept);
  const Operand y = b.data("block_out", b.T * b.h);
  b.op("residual_mix", ResidualMix{b.T, b.h}, {x, kept.moe_out, kept.mlp_out, kept.coefficient},
       {y});
  return y;
}

void mlp_block_backward(Builder& b, Operand dx, const BlockKept& kept) {
  const Operand dn = b.data("dn2", b.T * b.h);
  if (b.plan.moe(b.layer) == nullptr) {
    mlp_backward(b, dx, kept.mlp, dn);
  } else if (b.model.residual) {
    const Operand d_moe = b.data("d_moe", b.T * b.h), d_mlp = b.data("d_mlp", b.T * b.h);
    const Operand d_logits = b.wides("d_coefficient", b.T * 2);
    b.op("residual_mix_grad", ResidualMixGrad{b.T, b.h},
         {dx, kept.moe_out, kept.mlp_out, kept.coefficient}, {d_moe, d_mlp, d_logits});
    mlp_backward(b, d_mlp, kept.mlp, dn);
    coefficient_backward(b, kept, d_logits, dn);
    routed_backward(b, d_moe, kept.n, kept.routed, dn);
  } else {
    b.op("dn_zero", Fill{b.T * b.h}, {}, {dn});
    routed_backward(b, dx, kept.n, kept.routed, dn);
  }
  b.op("ln2_grad", LayerNormGrad{.rows = b.T, .hidden = b.h},
       {dn, kept.x, b.weight(TensorRole::Ln2Gain), kept.mean, kept.rstd},
       {dx, b.gradient(TensorRole::Ln2Gain), b.gradient(TensorRole::Ln2Bias)});
}

}  // namespace imhotep::program
