// Dense mathematics, head, loss and update: entries of the table of CUDA kernels.

#include "kernels/cuda_register.h"

namespace imhotep::kernels::cuda {

void add_dense(CudaFamilies& families) {
  families.layer_norm = layer_norm;
  families.layer_norm_grad = layer_norm_grad;
  families.gemm = gemm;
  families.column_sum = column_sum;
  families.add = add;
  families.fill = fill;
  families.embedding = embedding;
  families.embedding_grad = embedding_grad;
  families.residual_mix = residual_mix;
  families.residual_mix_grad = residual_mix_grad;
  families.softmax_stats = softmax_stats;
  families.cross_entropy = cross_entropy;
  families.distill = distill;
  families.sample = sample;
  families.sum_squares = sum_squares;
  families.clip_scale = clip_scale;
  families.adamw = adamw;
  families.initialize = initialize;
}

}  // namespace imhotep::kernels::cuda
