#pragma once
// A step of one rank as data: named buffers and operations in issue order. The simulator prices
// this list and the executor runs it; nothing about a step exists twice.
//
// Order between streams follows from buffers: an operation waits for whoever last wrote its
// inputs and whoever still reads its outputs. There are no hand-written events.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/base/dtype.h"
#include "core/base/ids.h"
#include "core/base/shapes.h"
#include "core/layout/members.h"
#include "core/layout/weights.h"

namespace imhotep::program {

enum class BufferKind : std::uint8_t {
  Weight,
  Gradient,
  Optimizer,
  Kv,     // regions that outlive a program
  Input,  // set by the caller before a run, or read after it
  Activation,
  Exchange,
  Scratch,    // one arena, shared by lifetime
  Workspace,  // of CUDA kernels and libraries during a call, whichever the operation
  Libraries,  // no buffer, but counted with them: what a GPU holds beside (device_memory.h)
};
inline constexpr int kBufferKinds = 10;

struct Buffer {
  const char* name = "";  // a literal
  std::int16_t layer = -1;
  BufferKind kind = BufferKind::Activation;
  Dtype dtype = Dtype::F32;
  std::int64_t elements = 0;
  int first_use = -1, last_use = -1;  // operation indices; arena buffers only
  std::int64_t offset = 0;            // bytes in the arena; other kinds: 0
  [[nodiscard]] std::int64_t bytes() const { return elements * bytes_of(dtype); }
};

// A place inside a buffer. An invalid buffer is an operand that this operation does without.
struct Operand {
  BufferId buffer;
  std::int64_t offset = 0;  // elements
  [[nodiscard]] bool valid() const { return buffer.valid(); }
};

// Operands in the order that core/program/operands.md documents for each family.
class Operands {
 public:
  static constexpr std::size_t kMost = 10;  // few_experts_down
  Operands() = default;
  Operands(std::initializer_list<Operand> list) {
    for (const Operand& operand : list) add(operand);
  }
  void add(const Operand& operand) { items_.at(count_++) = operand; }
  void set(std::size_t i, const Operand& operand) { items_.at(i) = operand; }
  [[nodiscard]] const Operand* begin() const { return items_.data(); }
  [[nodiscard]] const Operand* end() const { return items_.data() + count_; }
  [[nodiscard]] std::size_t size() const { return count_; }
  [[nodiscard]] const Operand& operator[](std::size_t i) const { return items_.at(i); }

 private:
  std::array<Operand, kMost> items_;
  std::uint8_t count_ = 0;
};

// Every operation family. Adding one here breaks the build of whoever cannot price or run it.
using Shape = std::variant<LayerNorm, LayerNormGrad, Gemm, ColumnSum, Add, Fill, Embedding,
                           EmbeddingGrad, Attention, AttentionGrad, AttentionCached, Route,
                           RouteGrad, PackOrder, ReceiveOrder, GatherRows, Combine, CombineGrad,
                           ScatterSum, GroupedGemm, GroupedColumnSum, ResidualMix, ResidualMixGrad,
                           NormGemm, NormGate, FewExpertsUp, FewExpertsDown, SoftmaxStats,
                           CrossEntropy, Distill, Sample, SumSquares, ClipScale, AdamW, AllReduce,
                           AllGather, ReduceScatter, AllGatherRows, ExchangeCounts, ExchangeRows>;

[[nodiscard]] std::string_view family_name(const Shape& shape);  // "gemm", "exchange_rows"

enum class Pass : std::uint8_t { Forward, Recompute, Backward, Update };
enum class Stream : std::uint8_t { Compute, Exchange };
[[nodiscard]] std::string_view pass_name(Pass pass);

struct Operation {
  const char* name = "";  // a literal: "experts_up"; traces and reports join on it
  Shape shape;
  Operands inputs, outputs;
  GroupId group;  // communication only
  std::int16_t layer = -1;
  Pass pass = Pass::Forward;
  Stream stream = Stream::Compute;
};

struct Group {
  Members members;
  int own_index = 0;
};

enum class Phase : std::uint8_t {
  TrainStep,  // forward and backward of one micro-batch, gradients accumulated
  Update,     // reduce gradients, clip, AdamW
  Evaluate,   // forward of one micro-batch, log-probability of every token
  Generate,   // prefill chunk or decode step with the paged KV cache
};
[[nodiscard]] std::string_view phase_name(Phase phase);

struct Program {
  Phase phase = Phase::TrainStep;
  Dtype dtype = Dtype::F32;
  std::int64_t rows = 0;  // tokens of this rank
  std::vector<Buffer> buffers;
  std::vector<Operation> operations;
  std::vector<Group> groups;
  WeightLayout weights;  // region r: buffers region_weights[r], ...
  std::vector<BufferId> region_weights, region_gradients, region_m, region_v;
  std::vector<BufferId> region_master;  // of bf16 regions: fp32 copy of what a rank updates
  std::int64_t arena_bytes = 0;         // activations, exchange and scratch, after colouring

  [[nodiscard]] const Buffer& operator[](BufferId id) const { return buffers[id.value]; }
  // The first buffer of that name; an invalid id if there is none.
  [[nodiscard]] BufferId find(std::string_view name) const;
};

// Bytes this rank allocates to run the program, by kind; the arena counts once, as Activation.
struct MemoryUse {
  std::array<std::int64_t, kBufferKinds> by_kind{};
  [[nodiscard]] std::int64_t total() const;
};
[[nodiscard]] MemoryUse memory_use(const Program& program);

// Sets first and last use of every buffer.
void find_lifetimes(Program& program);
// Gives every arena buffer an offset: interval colouring, best fit, 64-byte alignment.
// Sets Program::arena_bytes. Requires: lifetimes. Buffers whose lifetimes overlap never share a
// byte.
void place_buffers(Program& program);

}  // namespace imhotep::program
