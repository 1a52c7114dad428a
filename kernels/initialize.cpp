#include "kernels/initialize.h"

#include "core/base/random.h"
#include "kernels/select.h"

namespace imhotep::kernels {
namespace {

template <class T>
void fill_normal(const Initialize& shape, T* out) {
  for (std::int64_t i = 0; i < shape.count; ++i) {
    const auto element = static_cast<std::uint64_t>(shape.first + i);
    const double drawn = shape.deviation > 0 ? normal(shape.seed, shape.key, element) : 0;
    out[i] = static_cast<T>(static_cast<float>(shape.constant + shape.deviation * drawn));
  }
}

}  // namespace

void initialize(const Queue& queue, const Initialize& shape, const InitializeOperands& operands) {
  require(shape.count >= 0 && shape.deviation >= 0, "initialize", "negative count or deviation");
  if (on_cuda(queue, "initialize", &CudaFamilies::initialize, shape, operands)) return;
  on_cpu(queue, "initialize",
         [&](auto zero) { fill_normal(shape, static_cast<decltype(zero)*>(operands.out)); });
}

}  // namespace imhotep::kernels
