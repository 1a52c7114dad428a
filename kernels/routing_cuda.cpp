// The gate and the row tables: entries of the table of CUDA kernels.

#include "kernels/cuda_register.h"

namespace imhotep::kernels::cuda {

void add_routing(CudaFamilies& families) {
  families.route = route;
  families.route_grad = route_grad;
  families.pack_order = pack_order;
  families.receive_order = receive_order;
  families.gather_rows = gather_rows;
  families.scatter_sum = scatter_sum;
  families.combine = combine;
  families.combine_grad = combine_grad;
}

}  // namespace imhotep::kernels::cuda
