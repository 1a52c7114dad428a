// Communication: collectives over a group of the program, exchanges of a MoE layer.

#include "executor/runtime/operation.h"

namespace imhotep::executor {

void run(const OperationRun& o, const AllReduce& shape) {
  o.group->all_reduce(o.out(0), shape.elements, o.dtype_out(0));
}

void run(const OperationRun& o, const AllGather& shape) {
  o.group->all_gather(o.in(0), o.out(0), shape.elements * bytes_of(o.dtype_out(0)));
}

void run(const OperationRun& o, const ReduceScatter& shape) {
  o.group->reduce_scatter(o.in(0), o.out(0), shape.elements, o.dtype_out(0));
}

void run(const OperationRun& o, const AllGatherRows& shape) {
  const std::int64_t row_bytes = shape.hidden * bytes_of(o.dtype_out(0));
  if (o.cuda_exchange != nullptr) {
    o.cuda_exchange->gather_rows(o.queue, o.out(0), o.in<std::int32_t>(1), row_bytes, *o.targets);
    return;
  }
  o.exchange->gather_rows(o.out(0), o.in<std::int32_t>(1), row_bytes);
}

void run(const OperationRun& o, const ExchangeCounts&) {
  if (o.cuda_exchange != nullptr) {
    o.cuda_exchange->counts(o.queue, o.in<std::int32_t>(0), o.out<std::int32_t>(0));
    return;
  }
  o.exchange->counts(o.in<std::int32_t>(0), o.out<std::int32_t>(0));
}

void run(const OperationRun& o, const ExchangeRows& shape) {
  const program::Operands& outputs = o.operation.outputs;
  const std::int64_t row_bytes = shape.hidden * bytes_of(o.dtype_out(0));
  if (shape.algorithm == ExchangeAlgorithm::AllGather) {
    return o.exchange->gather({.in = o.in(0),
                               .out = o.out(0),
                               .sent = o.in<std::int32_t>(1),
                               .received = o.out<std::int32_t>(2),
                               .scratch = o.out(1),
                               .scratch_bytes = o.program[outputs[1].buffer].bytes(),
                               .row_bytes = row_bytes});
  }
  const bool scratch = outputs.size() > 1 && outputs[1].valid();
  const RowMove move{
      .in = o.in(0),
      .out = o.out(0),
      .sent = o.in<std::int32_t>(1),
      .received = o.in<std::int32_t>(2),
      .segments = o.in<std::int32_t>(3),
      .scratch = o.out(1),
      .scratch_rows = scratch ? o.program[outputs[1].buffer].elements / shape.hidden : 0,
      .row_bytes = row_bytes,
      .reverse = shape.reverse};
  if (o.cuda_exchange != nullptr) {
    o.cuda_exchange->rows(o.queue, move, *o.targets, shape.send.bound);
  } else {
    o.exchange->rows(move);
  }
}

}  // namespace imhotep::executor
