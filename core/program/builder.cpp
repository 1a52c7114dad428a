#include "core/program/builder.h"

#include <algorithm>

#include "core/base/fail.h"

namespace imhotep::program {

Builder::Builder(const Plan& a_plan, Rank a_rank, Phase phase, std::int64_t rows)
    : plan(a_plan),
      model(a_plan.model),
      rank(a_rank),
      T(rows),
      h(model.hidden),
      t(plan.tensor),
      t_index(rank_place(plan, rank).tensor),
      heads(model.heads / plan.tensor),
      head_dim(model.head_dim()),
      f(model.ffn() / plan.tensor),
      vocab(model.padded_vocab() / plan.tensor),
      wide(plan.dtype == Dtype::F64 ? Dtype::F64 : Dtype::F32),
      dtype_(plan.dtype) {
  program_.phase = phase;
  program_.dtype = plan.dtype;
  program_.rows = rows;
  program_.weights = weight_layout(plan, rank);
  tensors_.resize(static_cast<std::size_t>(model.layers) + 1);
  // Operations are large: a listing that grows by doubling copies all of them twice.
  constexpr std::size_t kUsualInLayer = 64;
  program_.operations.reserve(kUsualInLayer * tensors_.size());
  program_.buffers.reserve(kUsualInLayer * tensors_.size());
  const bool trains = phase == Phase::TrainStep || phase == Phase::Update;
  for (const Region& region : program_.weights.regions) {
    for (const LocalTensor& tensor : region.tensors) {
      tensors_[tensor.layer + 1][static_cast<int>(tensor.role)] = &tensor;
    }
    const auto add = [&](const char* name, BufferKind kind, std::int64_t elements) {
      return buffer(name, elements, region.dtype, kind).buffer;
    };
    program_.region_weights.push_back(add("weights", BufferKind::Weight, region.elements));
    if (trains) {
      program_.region_gradients.push_back(add("gradients", BufferKind::Gradient, region.elements));
    }
    if (phase == Phase::Update) {
      const std::int64_t held = plan.zero == 1 ? region.shard_elements() : region.elements;
      program_.region_m.push_back(buffer("m", held, wide, BufferKind::Optimizer).buffer);
      program_.region_v.push_back(buffer("v", held, wide, BufferKind::Optimizer).buffer);
      program_.region_master.push_back(
          region.dtype == Dtype::Bf16
              ? buffer("master", held, Dtype::F32, BufferKind::Optimizer).buffer
              : BufferId());
    }
  }
}

Operand Builder::buffer(const char* name, std::int64_t elements, Dtype dtype, BufferKind kind) {
  program_.buffers.push_back({.name = name,
                              .layer = static_cast<std::int16_t>(layer),
                              .kind = kind,
                              .dtype = dtype,
                              .elements = elements});
  return {.buffer = BufferId(static_cast<std::int64_t>(program_.buffers.size()) - 1)};
}

Operand Builder::input_named(std::string_view name) const {
  for (const Operand& input : inputs_) {
    if (program_[input.buffer].name == name) return input;
  }
  return {};
}

Operand Builder::slot(TensorRole role, const std::vector<BufferId>& regions) const {
  const bool block = role != TensorRole::TokenEmbedding && role != TensorRole::PositionEmbedding &&
                     role != TensorRole::FinalGain && role != TensorRole::FinalBias;
  const LocalTensor* tensor = tensors_[block ? layer + 1 : 0][static_cast<int>(role)];
  if (tensor == nullptr) {
    fail("layer {} has no tensor {}", layer, tensor_name(role, layer));
  }
  return {.buffer = regions[tensor->region], .offset = tensor->offset};
}

void Builder::op(const char* name, Shape shape, Operands inputs, Operands outputs) {
  program_.operations.push_back({.name = name,
                                 .shape = shape,
                                 .inputs = inputs,
                                 .outputs = outputs,
                                 .layer = static_cast<std::int16_t>(layer),
                                 .pass = pass});
}

void Builder::communicate(const char* name, Shape shape, const Members& members, Operands inputs,
                          Operands outputs) {
  if (members.size() <= 1) return;
  exchange(name, shape, members, inputs, outputs);
}

void Builder::exchange(const char* name, Shape shape, const Members& members, Operands inputs,
                       Operands outputs) {
  op(name, shape, inputs, outputs);
  program_.operations.back().group = group(members);
  program_.operations.back().stream = Stream::Exchange;
}

GroupId Builder::group(const Members& members) {
  const auto [found, added] =
      groups_.emplace(members, GroupId(static_cast<std::int64_t>(program_.groups.size())));
  if (added) {
    const auto own = static_cast<int>(members.index_of(rank));
    program_.groups.push_back({.members = members, .own_index = own});
  }
  return found->second;
}

// Recomputation repeats whole forward listings; what no backward operation reads is left out.
// Every rank of a group drops the same operations, because their listings have one structure.
void Builder::drop_unread_recomputation() {
  std::vector<bool> read(program_.buffers.size(), false);
  std::vector<Operation>& operations = program_.operations;
  std::size_t kept = operations.size();  // those from here on stay
  for (std::size_t i = operations.size(); i-- > 0;) {
    Operation& op = operations[i];
    const bool needed = op.pass != Pass::Recompute ||
                        std::any_of(op.outputs.begin(), op.outputs.end(), [&](const Operand& out) {
                          return out.valid() && read[out.buffer.value];
                        });
    if (!needed) continue;
    for (const Operand& in : op.inputs) {
      if (in.valid()) read[in.buffer.value] = true;
    }
    if (--kept != i) operations[kept] = op;
  }
  operations.erase(operations.begin(), operations.begin() + static_cast<std::ptrdiff_t>(kept));
}

Program Builder::finish(bool place) {
  if (plan.recompute != Recompute::None) drop_unread_recomputation();
  if (plan.device == DeviceKind::Cuda) {
    buffer("workspace", kCudaWorkspaceBytes / bytes_of(Dtype::F32), Dtype::F32,
           BufferKind::Workspace);
  }
  find_lifetimes(program_);
  if (place) place_buffers(program_);
  return std::move(program_);
}

}  // namespace imhotep::program
