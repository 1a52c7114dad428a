#pragma once
// One operation at hand: its operands as pointers. Internal to executor/runtime.

#include "executor/comm/cuda_exchange.h"
#include "executor/comm/exchange.h"
#include "executor/runtime/runner.h"

namespace imhotep::executor {

struct OperationRun {
  const program::Program& program;
  const program::Operation& operation;
  const std::vector<std::byte*>& addresses;
  const StepContext& context;
  kernels::Queue queue;
  Communicator* group = nullptr;          // communication only
  Exchange* exchange = nullptr;           // exchange families only; on CPU ranks
  CudaExchange* cuda_exchange = nullptr;  // the same between GPUs
  const PeerTargets* targets = nullptr;   // where rows arrive there

  template <class T = void>
  [[nodiscard]] const T* in(std::size_t i) const {
    return reinterpret_cast<const T*>(pointer(operation.inputs, i));
  }
  template <class T = void>
  [[nodiscard]] T* out(std::size_t i) const {
    return reinterpret_cast<T*>(pointer(operation.outputs, i));
  }
  [[nodiscard]] Dtype dtype_out(std::size_t i) const {
    return program[operation.outputs[i].buffer].dtype;
  }
  [[nodiscard]] Dtype dtype_in(std::size_t i) const {
    return program[operation.inputs[i].buffer].dtype;
  }
  // For families that work on buffers of any type: the router's are fp32 in bf16 programs.
  [[nodiscard]] kernels::Queue queue_of(Dtype dtype) const {
    kernels::Queue other = queue;
    other.dtype = dtype;
    return other;
  }

 private:
  [[nodiscard]] std::byte* pointer(const program::Operands& operands, std::size_t i) const {
    if (i >= operands.size() || !operands[i].valid()) return nullptr;
    const program::Operand& operand = operands[i];
    return addresses[operand.buffer.value] +
           operand.offset * bytes_of(program[operand.buffer].dtype);
  }
};

// One overload a family; a family without one does not compile (runner.cpp visits them all).
void run(const OperationRun& o, const LayerNorm& shape);
void run(const OperationRun& o, const LayerNormGrad& shape);
void run(const OperationRun& o, const Gemm& shape);
void run(const OperationRun& o, const ColumnSum& shape);
void run(const OperationRun& o, const Add& shape);
void run(const OperationRun& o, const Fill& shape);
void run(const OperationRun& o, const Embedding& shape);
void run(const OperationRun& o, const EmbeddingGrad& shape);
void run(const OperationRun& o, const Attention& shape);
void run(const OperationRun& o, const AttentionGrad& shape);
void run(const OperationRun& o, const AttentionCached& shape);
void run(const OperationRun& o, const SoftmaxStats& shape);
void run(const OperationRun& o, const CrossEntropy& shape);
void run(const OperationRun& o, const Distill& shape);
void run(const OperationRun& o, const Sample& shape);
void run(const OperationRun& o, const SumSquares& shape);
void run(const OperationRun& o, const ClipScale& shape);
void run(const OperationRun& o, const AdamW& shape);

void run(const OperationRun& o, const Route& shape);
void run(const OperationRun& o, const RouteGrad& shape);
void run(const OperationRun& o, const PackOrder& shape);
void run(const OperationRun& o, const ReceiveOrder& shape);
void run(const OperationRun& o, const GatherRows& shape);
void run(const OperationRun& o, const Combine& shape);
void run(const OperationRun& o, const CombineGrad& shape);
void run(const OperationRun& o, const ScatterSum& shape);
void run(const OperationRun& o, const GroupedGemm& shape);
void run(const OperationRun& o, const GroupedColumnSum& shape);
void run(const OperationRun& o, const ResidualMix& shape);
void run(const OperationRun& o, const ResidualMixGrad& shape);

void run(const OperationRun& o, const NormGemm& shape);
void run(const OperationRun& o, const NormGate& shape);
void run(const OperationRun& o, const FewExpertsUp& shape);
void run(const OperationRun& o, const FewExpertsDown& shape);

void run(const OperationRun& o, const AllReduce& shape);
void run(const OperationRun& o, const AllGather& shape);
void run(const OperationRun& o, const ReduceScatter& shape);
void run(const OperationRun& o, const AllGatherRows& shape);
void run(const OperationRun& o, const ExchangeCounts& shape);
void run(const OperationRun& o, const ExchangeRows& shape);

}  // namespace imhotep::executor
