// Products through cuBLASLt, with the epilogue fused where it can be. cuBLAS counts columns first,
// so it is asked for the transpose: its A is our b, its B our a, its rows our n.
// An algorithm is chosen once a shape: of up to 16 that the library proposes, the one that took
// least time, measured on the call's own operands with the second-level cache flushed. Inside a
// graph capture nothing can be timed: the first proposal serves until a call outside. With
// IMHOTEP_GEMM_TUNE=0 the first proposal always serves. Split sums are kept in fp32 in the
// workspace, whose order is fixed.
// The sums of BiasGrad ride with the product if that takes less time than a kernel of their own.
// The library writes them: sums that are added to what was there go through the workspace.

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <compare>
#include <cstdlib>
#include <map>
#include <memory>
#include <string_view>

#include "kernels/cuda_check.h"
#include "kernels/cuda_context.h"
#include "kernels/elementwise.h"
#include "kernels/few_rows_gemm.h"
#include "kernels/gemm_cuda.h"

namespace imhotep::kernels::cuda {
namespace {

struct Key {
  std::int64_t m, n, k;
  bool transpose_a, transpose_b, accumulate, wide, keeps_pre, fusable;
  Epilogue epilogue;
  Dtype dtype;
  std::uint32_t align_a, align_b, align_c;
  auto operator<=>(const Key&) const = default;
};

constexpr std::uint32_t kAlign = 16;  // no kernel wants more

std::uint32_t alignment_of(const void* pointer) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  std::uint32_t align = kAlign;
  while (address % align != 0) align /= 2;
  return align;
}

// fp32 products are for checks: their epilogues need not be fast, but exact.
bool can_fuse(const Queue& queue, const Gemm& s, const GemmOperands& o) {
  constexpr std::int64_t kAuxStep = 8;  // elements a row of `pre` must be a multiple of
  const bool sums = s.epilogue == Epilogue::BiasGrad;
  return queue.dtype == Dtype::Bf16 && !s.wide && s.n % kAuxStep == 0 &&
         (!sums || s.m % kAuxStep == 0) && alignment_of(o.bias) == kAlign &&
         alignment_of(o.pre) == kAlign && alignment_of(o.bias_grad) == kAlign &&
         alignment_of(o.c) == kAlign;
}

Key key_of(const Queue& queue, const Gemm& s, const GemmOperands& o) {
  const std::uint32_t of_addend =
      s.epilogue == Epilogue::BiasResidual ? alignment_of(o.addend) : kAlign;
  return {.m = s.m,
          .n = s.n,
          .k = s.k,
          .transpose_a = s.transpose_a,
          .transpose_b = s.transpose_b,
          .accumulate = s.accumulate,
          .wide = s.wide,
          .keeps_pre = o.pre != nullptr,
          .fusable = s.epilogue == Epilogue::None || can_fuse(queue, s, o),
          .epilogue = s.epilogue,
          .dtype = queue.dtype,
          .align_a = alignment_of(o.a),
          .align_b = alignment_of(o.b),
          .align_c = std::min(alignment_of(o.c), of_addend)};
}

cublasLtEpilogue_t library_epilogue(Epilogue epilogue, bool keeps_pre) {
  switch (epilogue) {
    case Epilogue::None:
      break;
    case Epilogue::Bias:
    case Epilogue::BiasResidual:
      return CUBLASLT_EPILOGUE_BIAS;
    case Epilogue::BiasGelu:
      return keeps_pre ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_BIAS;
    case Epilogue::GeluGrad:
      return CUBLASLT_EPILOGUE_DGELU;
    case Epilogue::BiasGrad:
      return CUBLASLT_EPILOGUE_BGRADB;  // sums over k of the library's B, our a
  }
  return CUBLASLT_EPILOGUE_DEFAULT;
}

template <class Handle, cublasStatus_t (*kDestroy)(Handle)>
struct Destroy {
  void operator()(Handle handle) const { kDestroy(handle); }
};
template <class Handle, cublasStatus_t (*kDestroy)(Handle)>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroy<Handle, kDestroy>>;
using Description = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

template <class Value>
void set(const Description& to, cublasLtMatmulDescAttributes_t which, const Value& value) {
  IMHOTEP_CUBLAS(cublasLtMatmulDescSetAttribute(to.get(), which, &value, sizeof value));
}
template <class Value>
void set(const Preference& to, cublasLtMatmulPreferenceAttributes_t which, const Value& value) {
  IMHOTEP_CUBLAS(cublasLtMatmulPreferenceSetAttribute(to.get(), which, &value, sizeof value));
}

// A row-major matrix as the library sees it: columns first.
Layout layout_of(cudaDataType type, std::int64_t rows, std::int64_t columns) {
  cublasLtMatrixLayout_t layout = nullptr;
  IMHOTEP_CUBLAS(cublasLtMatrixLayoutCreate(&layout, type, static_cast<std::uint64_t>(columns),
                                            static_cast<std::uint64_t>(rows), columns));
  return Layout(layout);
}

struct Proposals {
  static constexpr int kMost = 16;
  std::array<cublasLtMatmulHeuristicResult_t, kMost> results;
  int count = 0;
};

class Product {
 public:
  Product(const Queue& queue, const Gemm& shape, const GemmOperands& operands, bool fused);

  // Whether the library has an algorithm at all.
  [[nodiscard]] bool possible() const { return proposals_.count > 0; }
  [[nodiscard]] bool fused() const { return fused_; }
  [[nodiscard]] bool tuned() const { return tuned_; }
  // Of the chosen algorithm; infinity before it was measured.
  [[nodiscard]] double best_us() const { return best_us_; }
  void run(cublasLtHandle_t handle, const Queue& queue, const GemmOperands& operands);
  void tune(cublasLtHandle_t handle, const Queue& queue, const GemmOperands& operands);
  void propose(cublasLtHandle_t handle, const Key& key, std::int64_t workspace_bytes);

 private:
  struct Call {
    const GemmOperands& operands;
    void* out;
  };
  void point(const Queue& queue, const GemmOperands& operands);
  cublasStatus_t launch(cublasLtHandle_t handle, const Queue& queue, const Call& call,
                        const cublasLtMatmulAlgo_t& algorithm) const;
  double time_us(cublasLtHandle_t handle, const Queue& queue, const Call& call,
                 const cublasLtMatmulAlgo_t& algorithm) const;

  Description description_;
  Layout a_, b_, c_;
  Proposals proposals_;
  int chosen_ = 0;
  double best_us_ = INFINITY;
  std::int64_t out_bytes_ = 0, sums_ = 0;  // sums_: of BiasGrad
  Epilogue epilogue_;
  bool fused_, accumulate_, tuned_ = false;
};

struct Library {
  cublasLtHandle_t handle = nullptr;
  std::map<Key, std::unique_ptr<Product>> products;

  Library() { IMHOTEP_CUBLAS(cublasLtCreate(&handle)); }
  ~Library() { cublasLtDestroy(handle); }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;
};

// The library has the first half of the workspace.
std::int64_t library_bytes(const Queue& queue) { return queue.workspace_bytes / 2; }
char* second_half(const Queue& queue) {
  return static_cast<char*>(queue.workspace) + library_bytes(queue);
}

bool is_capturing(const Queue& queue) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  IMHOTEP_CUDA(cudaStreamIsCapturing(stream_of(queue), &status));
  return status != cudaStreamCaptureStatusNone;
}

bool may_tune() {
  static const bool may = [] {
    const char* value = std::getenv("IMHOTEP_GEMM_TUNE");
    return value == nullptr || std::string_view(value) != "0";
  }();
  return may;
}

Product::Product(const Queue& queue, const Gemm& shape, const GemmOperands& operands, bool fused)
    : epilogue_(fused ? shape.epilogue : Epilogue::None),
      fused_(fused),
      accumulate_(shape.accumulate) {
  const cudaDataType data = queue.dtype == Dtype::Bf16 ? CUDA_R_16BF : CUDA_R_32F;
  const cudaDataType result = shape.wide ? CUDA_R_32F : data;
  cublasLtMatmulDesc_t description = nullptr;
  IMHOTEP_CUBLAS(cublasLtMatmulDescCreate(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  description_.reset(description);
  set(description_, CUBLASLT_MATMUL_DESC_TRANSA, shape.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(description_, CUBLASLT_MATMUL_DESC_TRANSB, shape.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(description_, CUBLASLT_MATMUL_DESC_EPILOGUE,
      library_epilogue(epilogue_, operands.pre != nullptr));
  const bool has_pre = epilogue_ == Epilogue::GeluGrad ||
                       (epilogue_ == Epilogue::BiasGelu && operands.pre != nullptr);
  if (has_pre) set(description_, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, shape.n);
  a_ = shape.transpose_b ? layout_of(data, shape.n, shape.k) : layout_of(data, shape.k, shape.n);
  b_ = shape.transpose_a ? layout_of(data, shape.k, shape.m) : layout_of(data, shape.m, shape.k);
  c_ = layout_of(result, shape.m, shape.n);
  out_bytes_ = shape.m * shape.n * (result == CUDA_R_32F ? 4 : 2);
  sums_ = shape.m;
  point(queue, operands);
}

void Product::point(const Queue& queue, const GemmOperands& operands) {
  if (epilogue_ == Epilogue::None) return;
  if (epilogue_ == Epilogue::BiasGrad) {
    void* sums = accumulate_ ? second_half(queue) : operands.bias_grad;
    set(description_, CUBLASLT_MATMUL_DESC_BIAS_POINTER, sums);
  } else if (epilogue_ != Epilogue::GeluGrad) {
    set(description_, CUBLASLT_MATMUL_DESC_BIAS_POINTER, operands.bias);
  }
  const bool gelu = epilogue_ == Epilogue::GeluGrad || epilogue_ == Epilogue::BiasGelu;
  if (gelu && operands.pre != nullptr) {
    set(description_, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, operands.pre);
  }
}

void Product::propose(cublasLtHandle_t handle, const Key& key, std::int64_t workspace_bytes) {
  cublasLtMatmulPreference_t made = nullptr;
  IMHOTEP_CUBLAS(cublasLtMatmulPreferenceCreate(&made));
  const Preference preference(made);
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
      static_cast<std::uint64_t>(workspace_bytes));
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.align_b);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.align_a);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.align_c);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.align_c);
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle, description_.get(), a_.get(), b_.get(), c_.get(), c_.get(), preference.get(),
      Proposals::kMost, proposals_.results.data(), &proposals_.count);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) {
    proposals_.count = 0;
    return;
  }
  IMHOTEP_CUBLAS(status);
}

cublasStatus_t Product::launch(cublasLtHandle_t handle, const Queue& queue, const Call& call,
                               const cublasLtMatmulAlgo_t& algorithm) const {
  const GemmOperands& o = call.operands;
  const bool adds = accumulate_ || epilogue_ == Epilogue::BiasResidual;
  const float alpha = 1, beta = adds ? 1 : 0;
  const void* added = epilogue_ == Epilogue::BiasResidual ? o.addend : accumulate_ ? o.c : call.out;
  return cublasLtMatmul(handle, description_.get(), &alpha, o.b, a_.get(), o.a, b_.get(), &beta,
                        added, c_.get(), call.out, c_.get(), &algorithm, queue.workspace,
                        static_cast<std::size_t>(library_bytes(queue)), stream_of(queue));
}

using Event = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, decltype(&cudaEventDestroy)>;

Event make_event() {
  cudaEvent_t event = nullptr;
  IMHOTEP_CUDA(cudaEventCreate(&event));
  return {event, &cudaEventDestroy};
}

// Median of a few runs, each after the cache was filled with other data.
template <class Run>
double median_us(const Queue& queue, Run run) {
  const Event start = make_event(), end = make_event();
  std::array<double, 3> times{};
  for (double& time : times) {
    const std::int64_t free_bytes = queue.workspace_bytes - kKeptBytes;
    IMHOTEP_CUDA(cudaMemsetAsync(queue.workspace, 0, static_cast<std::size_t>(free_bytes),
                                 stream_of(queue)));
    IMHOTEP_CUDA(cudaEventRecord(start.get(), stream_of(queue)));
    run();
    IMHOTEP_CUDA(cudaEventRecord(end.get(), stream_of(queue)));
    IMHOTEP_CUDA(cudaEventSynchronize(end.get()));
    float milliseconds = 0;
    IMHOTEP_CUDA(cudaEventElapsedTime(&milliseconds, start.get(), end.get()));
    time = static_cast<double>(milliseconds) * 1000;
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

// Infinity if the algorithm cannot run.
double Product::time_us(cublasLtHandle_t handle, const Queue& queue, const Call& call,
                        const cublasLtMatmulAlgo_t& algorithm) const {
  if (launch(handle, queue, call, algorithm) != CUBLAS_STATUS_SUCCESS) return INFINITY;
  return median_us(queue, [&] { IMHOTEP_CUBLAS(launch(handle, queue, call, algorithm)); });
}

// A later proposal must win clearly: the library's order is good, and the times are noisy.
void Product::tune(cublasLtHandle_t handle, const Queue& queue, const GemmOperands& operands) {
  constexpr double kClearly = 0.98;
  tuned_ = true;
  point(queue, operands);
  void* scratch = nullptr;
  if (accumulate_) {  // c must not be added to more than once
    if (cudaMalloc(&scratch, static_cast<std::size_t>(out_bytes_)) != cudaSuccess) {
      cudaGetLastError();  // no room to measure in: the first proposal serves
      return;
    }
  }
  const std::unique_ptr<void, decltype(&cudaFree)> freed(scratch, &cudaFree);
  const Call call{.operands = operands, .out = accumulate_ ? scratch : operands.c};
  for (int i = 0; i < proposals_.count; ++i) {
    const auto& proposal = proposals_.results[static_cast<std::size_t>(i)];
    if (proposal.state != CUBLAS_STATUS_SUCCESS) continue;
    const double time = time_us(handle, queue, call, proposal.algo);
    if (time < kClearly * best_us_) best_us_ = time, chosen_ = i;
  }
  IMHOTEP_CUDA(cudaStreamSynchronize(stream_of(queue)));
}

void Product::run(cublasLtHandle_t handle, const Queue& queue, const GemmOperands& operands) {
  point(queue, operands);
  const auto& algorithm = proposals_.results[static_cast<std::size_t>(chosen_)].algo;
  IMHOTEP_CUBLAS(launch(handle, queue, {.operands = operands, .out = operands.c}, algorithm));
  if (epilogue_ == Epilogue::BiasGrad && accumulate_) {
    cuda::add(queue, {sums_}, {.x = second_half(queue), .y = operands.bias_grad});
  }
}

// Time of the sums of BiasGrad by their own kernel, which write where they do no harm.
double bias_grad_us(const Queue& queue, const Gemm& shape, const GemmOperands& operands) {
  Queue first_half = queue;
  first_half.workspace_bytes = library_bytes(queue);
  const ColumnSum sums{.rows = shape.k, .cols = shape.m, .accumulate = false};
  return median_us(queue, [&] {
    cuda::column_sum(first_half, sums, {.x = operands.a, .out = second_half(queue)});
  });
}

// Measures the algorithms of a product; one of BiasGrad against the same with sums of their own.
void tune(Library& library, const Queue& queue, const Gemm& shape, const GemmOperands& operands,
          std::unique_ptr<Product>& product) {
  product->tune(library.handle, queue, operands);
  if (shape.epilogue != Epilogue::BiasGrad || !product->fused()) return;
  auto apart = std::make_unique<Product>(queue, shape, operands, false);
  apart->propose(library.handle, key_of(queue, shape, operands), library_bytes(queue));
  if (!apart->possible()) return;
  apart->tune(library.handle, queue, operands);
  if (apart->best_us() + bias_grad_us(queue, shape, operands) < product->best_us()) {
    product = std::move(apart);
  }
}

// The product of a shape: with its epilogue if the library can, else without.
Product& product_of(Library& library, const Queue& queue, const Gemm& shape,
                    const GemmOperands& operands) {
  const Key key = key_of(queue, shape, operands);
  std::unique_ptr<Product>& slot = library.products[key];
  for (const bool fused : {true, false}) {
    if (slot || (fused && !key.fusable)) continue;
    auto made = std::make_unique<Product>(queue, shape, operands, fused);
    made->propose(library.handle, key, library_bytes(queue));
    if (!made->possible()) continue;
    slot = std::move(made);
  }
  expect(slot != nullptr, "gemm", "cuBLASLt has no algorithm for this product");
  if (!slot->tuned() && may_tune() && !is_capturing(queue)) {
    tune(library, queue, shape, operands, slot);
  }
  return *slot;
}

}  // namespace

void gemm(const Queue& queue, const Gemm& shape, const GemmOperands& operands) {
  if (queue.dtype == Dtype::Bf16 && (shape.wide_a || shape.wide_b)) {
    if (few_logits_product(queue, shape, operands)) return;
    return mixed_product(queue, shape, operands);
  }
  expect(queue.dtype == Dtype::F32 || queue.dtype == Dtype::Bf16, "gemm",
         "CUDA kernels take fp32 and bf16");
  if (shape.k == 0) {
    const std::int64_t bytes = shape.wide ? 4 : bytes_of(queue.dtype);
    if (!shape.accumulate) {
      IMHOTEP_CUDA(cudaMemsetAsync(
          operands.c, 0, static_cast<std::size_t>(shape.m * shape.n * bytes), stream_of(queue)));
    }
    return finish_product(queue, shape, operands);
  }
  if (few_rows_gemm(queue, shape, operands)) return;
  library_product(queue, shape, operands);
}

void library_product(const Queue& queue, const Gemm& shape, const GemmOperands& operands) {
  auto& library = context_of(queue).get<Library>();
  Product& product = product_of(library, queue, shape, operands);
  product.run(library.handle, queue, operands);
  if (!product.fused()) finish_product(queue, shape, operands);
}

}  // namespace imhotep::kernels::cuda
