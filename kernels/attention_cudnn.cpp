// cuDNN's flash attention, through cudnn-frontend. A graph is built once for each shape and kept in
// the rank's Context. The gradient needs an fp32 sum for every element of q, more than the
// workspace holds for a whole micro-batch; sequences, then heads, are independent, so the call is
// cut into slices that fit. libcudnn is loaded on first use: without it, everything else works.
#include <cudnn_frontend.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <string>

#include "core/base/error.h"
#include "kernels/attention_cuda.h"
#include "kernels/cuda_context.h"
#include "kernels/cuda_register.h"
#include "kernels/cudnn_library.h"

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;  // of libcudnn: where cudnn-frontend looks functions up
}

namespace imhotep::kernels::cuda {
namespace {

namespace fe = cudnn_frontend;
using Graph = fe::graph::Graph;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

void check(fe::error_t status, const char* doing) {
  if (status.is_good()) return;
  raise(ErrorKind::Failed, std::string("attention: cuDNN ") + cudnn_version_text(cudnn_version()) +
                               ": " + doing + ": " + status.get_message());
}
void check(cudnnStatus_t status, const char* doing) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  raise(ErrorKind::Failed, std::string("attention: cuDNN ") + cudnn_version_text(cudnn_version()) +
                               ": " + doing + ": " + fe::detail::get_error_string(status));
}

// The names of the tensors in a graph.
enum Uid : std::int64_t { kQ = 1, kK, kV, kCtx, kLse, kDctx, kDq, kDk, kDv };

// A slice of the call: `sequences` x `heads` of rows that hold `all_heads` heads.
struct Slice {
  std::int64_t sequences = 0, heads = 0, all_heads = 0, sequence = 0, head_dim = 0;
  bool gradient = false;
  auto operator<=>(const Slice&) const = default;
};

struct Plan {
  std::shared_ptr<Graph> graph;  // none: cuDNN has no kernel
  std::int64_t workspace_bytes = 0;
};

struct Cudnn {
  cudnnHandle_t handle = nullptr;
  std::map<Slice, Plan> plans;

  Cudnn() {
    fe::cudnn_dlhandle = cudnn_handle();
    // Of the runtimes on this machine the one that this library is linked to.
    const std::string runtime = "libcudart.so." + std::to_string(CUDART_VERSION / 1000);
    setenv("CUDNN_FRONTEND_CUDART_LIB_NAME", runtime.c_str(), 0);
    check(fe::detail::create_handle(&handle), "cudnnCreate");
  }
  ~Cudnn() {
    plans.clear();
    if (handle != nullptr) fe::detail::destroy_handle(handle);
  }
  Cudnn(const Cudnn&) = delete;
  Cudnn& operator=(const Cudnn&) = delete;
};

// A view [sequences, heads, sequence, head_dim] of rows of `parts` x all_heads heads.
Tensor rows_of(Graph& graph, const Slice& s, const char* name, Uid uid, std::int64_t parts) {
  const std::int64_t row = parts * s.all_heads * s.head_dim;
  return graph.tensor(fe::graph::Tensor_attributes()
                          .set_name(name)
                          .set_uid(uid)
                          .set_dim({s.sequences, s.heads, s.sequence, s.head_dim})
                          .set_stride({s.sequence * row, s.head_dim, row, 1}));
}
void write_rows(const Tensor& tensor, const Slice& s, Uid uid, std::int64_t parts) {
  const std::int64_t row = parts * s.all_heads * s.head_dim;
  tensor->set_output(true)
      .set_uid(uid)
      .set_dim({s.sequences, s.heads, s.sequence, s.head_dim})
      .set_stride({s.sequence * row, s.head_dim, row, 1});
}
// cuDNN wants it packed: a slice of heads is one of a single sequence, whose stride means nothing.
void shape_lse(fe::graph::Tensor_attributes& lse, const Slice& s) {
  const std::int64_t heads = s.sequences == 1 ? s.heads : s.all_heads;
  lse.set_uid(kLse)
      .set_data_type(fe::DataType_t::FLOAT)
      .set_dim({s.sequences, s.heads, s.sequence, 1})
      .set_stride({heads * s.sequence, s.sequence, 1, 1});
}

std::shared_ptr<Graph> describe(const Slice& s) {
  auto graph = std::make_shared<Graph>();
  graph->set_io_data_type(fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  const auto scale = static_cast<float>(1 / std::sqrt(static_cast<double>(s.head_dim)));
  const Tensor q = rows_of(*graph, s, "q", kQ, 3), k = rows_of(*graph, s, "k", kK, 3),
               v = rows_of(*graph, s, "v", kV, 3);
  if (!s.gradient) {
    auto [ctx, lse] = graph->sdpa(q, k, v,
                                  fe::graph::SDPA_attributes()
                                      .set_name("attention")
                                      .set_generate_stats(true)
                                      .set_causal_mask(true)
                                      .set_attn_scale(scale));
    write_rows(ctx, s, kCtx, 1);
    shape_lse(lse->set_output(true), s);
    return graph;
  }
  const Tensor ctx = rows_of(*graph, s, "ctx", kCtx, 1),
               dctx = rows_of(*graph, s, "dctx", kDctx, 1);
  fe::graph::Tensor_attributes lse;
  lse.set_name("lse");
  shape_lse(lse, s);
  auto [dq, dk, dv] = graph->sdpa_backward(q, k, v, ctx, dctx, graph->tensor(lse),
                                           fe::graph::SDPA_backward_attributes()
                                               .set_name("attention_grad")
                                               .set_causal_mask(true)
                                               .set_attn_scale(scale));
  write_rows(dq, s, kDq, 3);
  write_rows(dk, s, kDk, 3);
  write_rows(dv, s, kDv, 3);
  return graph;
}

// What a refusal looks like; anything else that goes wrong is an error.
bool refused(fe::error_t status) {
  return status.get_code() == fe::error_code_t::GRAPH_NOT_SUPPORTED ||
         status.get_code() == fe::error_code_t::HEURISTIC_QUERY_FAILED;
}

Plan build(const Cudnn& cudnn, const Slice& slice) {
  const auto graph = describe(slice);
  fe::error_t status = graph->validate();
  if (status.is_good()) status = graph->build_operation_graph(cudnn.handle);
  if (status.is_good()) status = graph->create_execution_plans({fe::HeurMode_t::A});
  if (status.is_good()) status = graph->check_support();
  if (refused(status)) return {};
  check(status, "choosing a kernel");
  check(graph->build_plans(), "building a kernel");
  Plan plan{.graph = graph};
  check(graph->get_workspace_size(plan.workspace_bytes), "asking for the workspace");
  return plan;
}

const Plan& plan_of(Cudnn& cudnn, const Slice& slice) {
  const auto known = cudnn.plans.find(slice);
  if (known != cudnn.plans.end()) return known->second;
  return cudnn.plans.emplace(slice, build(cudnn, slice)).first->second;
}

// fp32 sums of the gradient of q and one float a row; what else cuDNN wants is small.
std::int64_t expected_bytes(const Slice& s) {
  return s.gradient ? s.sequences * s.heads * s.sequence * (s.head_dim + 1) * 4 : 0;
}

// False when there is nothing left to halve.
bool halve(Slice& s) {
  std::int64_t& side = s.sequences > 1 ? s.sequences : s.heads;
  if (side == 1) return false;
  side = (side + 1) / 2;
  return true;
}

// The largest slice of `whole` whose plan fits into the workspace; none: cuDNN has no kernel.
const Plan* fit(Cudnn& cudnn, const Queue& queue, Slice& slice) {
  while (expected_bytes(slice) > queue.workspace_bytes && halve(slice)) {
  }
  while (true) {
    const Plan& plan = plan_of(cudnn, slice);
    if (!plan.graph) return nullptr;
    if (plan.workspace_bytes <= queue.workspace_bytes) return &plan;
    if (!halve(slice)) {
      raise(ErrorKind::Failed, "attention: cuDNN wants a workspace of " +
                                   std::to_string(plan.workspace_bytes) +
                                   " bytes for one head, and the program has " +
                                   std::to_string(queue.workspace_bytes));
    }
  }
}

struct Pointers {
  const char *qkv = nullptr, *ctx = nullptr, *lse = nullptr, *dctx = nullptr;
  char* dqkv = nullptr;
};

// Runs one slice that begins at the given sequence and head.
void run(Cudnn& cudnn, const Queue& queue, const Plan& plan, const Slice& s, const Pointers& p,
         std::array<std::int64_t, 2> begin) {
  constexpr std::int64_t kBytes = 2;  // of a bf16
  const std::int64_t width = s.all_heads * s.head_dim * kBytes;
  const std::int64_t token = begin[0] * s.sequence, head = begin[1] * s.head_dim * kBytes;
  const std::int64_t packed = token * 3 * width + head, plain = token * width + head;
  const std::int64_t row = (begin[0] * s.all_heads + begin[1]) * s.sequence * 4;
  const auto at = [](const char* base, std::int64_t offset) {
    return const_cast<char*>(base) + offset;  // cuDNN takes inputs as void* too
  };
  std::unordered_map<std::int64_t, void*> tensors{{kQ, at(p.qkv, packed)},
                                                  {kK, at(p.qkv, packed + width)},
                                                  {kV, at(p.qkv, packed + 2 * width)},
                                                  {kCtx, at(p.ctx, plain)},
                                                  {kLse, at(p.lse, row)}};
  if (s.gradient) {
    tensors.insert({{kDctx, at(p.dctx, plain)},
                    {kDq, at(p.dqkv, packed)},
                    {kDk, at(p.dqkv, packed + width)},
                    {kDv, at(p.dqkv, packed + 2 * width)}});
  }
  check(plan.graph->execute(cudnn.handle, tensors, queue.workspace), "running a kernel");
}

bool run_all(const Queue& queue, const Slice& whole, const Pointers& pointers) {
  auto& cudnn = context_of(queue).get<Cudnn>();
  Slice most = whole;
  if (fit(cudnn, queue, most) == nullptr) return false;
  check(fe::detail::set_stream(cudnn.handle, stream_of(queue)), "cudnnSetStream");
  for (std::int64_t sequence = 0; sequence < whole.sequences; sequence += most.sequences) {
    for (std::int64_t head = 0; head < whole.heads; head += most.heads) {
      Slice slice = most;
      slice.sequences = std::min(most.sequences, whole.sequences - sequence);
      slice.heads = std::min(most.heads, whole.heads - head);
      const Plan& plan = plan_of(cudnn, slice);
      if (!plan.graph) {
        raise(ErrorKind::Failed, "attention: cuDNN takes a shape, but not its last slice");
      }
      run(cudnn, queue, plan, slice, pointers, {sequence, head});
    }
  }
  return true;
}

template <class Shape>
Slice whole_of(const Shape& s, bool gradient) {
  return {.sequences = s.batch,
          .heads = s.heads,
          .all_heads = s.heads,
          .sequence = s.sequence,
          .head_dim = s.head_dim,
          .gradient = gradient};
}

// Rows of heads whose size is no multiple of 16 bytes cannot be read by cuDNN's kernels.
bool readable(std::int64_t head_dim) { return head_dim % 8 == 0; }

}  // namespace

bool cudnn_attention(const Queue& queue, const Attention& shape, const AttentionOperands& o) {
  if (!readable(shape.head_dim)) return false;
  return run_all(queue, whole_of(shape, false),
                 {.qkv = static_cast<const char*>(o.qkv),
                  .ctx = static_cast<const char*>(o.ctx),
                  .lse = static_cast<const char*>(o.lse)});
}

bool cudnn_attention_grad(const Queue& queue, const AttentionGrad& shape,
                          const AttentionGradOperands& o) {
  if (!readable(shape.head_dim)) return false;
  return run_all(queue, whole_of(shape, true),
                 {.qkv = static_cast<const char*>(o.qkv),
                  .ctx = static_cast<const char*>(o.ctx),
                  .lse = static_cast<const char*>(o.lse),
                  .dctx = static_cast<const char*>(o.dctx),
                  .dqkv = static_cast<char*>(o.dqkv)});
}

}  // namespace imhotep::kernels::cuda
