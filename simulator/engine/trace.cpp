#include "simulator/engine/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace imhotep::simulator {
namespace {

constexpr const char* kStreamNames[] = {"compute", "exchange"};

std::string label(const program::Operation& operation) {
  return operation.layer < 0 ? operation.name
                             : fmt::format("{} {}", operation.name, operation.layer);
}

std::vector<Slice> by_start(const Timeline& timeline) {
  std::vector<Slice> slices = timeline.slices;
  std::stable_sort(slices.begin(), slices.end(),
                   [](const Slice& a, const Slice& b) { return a.start_us < b.start_us; });
  return slices;
}

}  // namespace

// Names are literals of the program: letters, digits and underscores, nothing to escape.
std::string chrome_trace(const program::Program& program, const Timeline& timeline, int rank) {
  std::string text = "{\"displayTimeUnit\": \"ns\", \"traceEvents\": [\n";
  auto out = std::back_inserter(text);
  fmt::format_to(out,
                 "{{\"ph\": \"M\", \"pid\": {0}, \"name\": \"process_name\", \"args\": "
                 "{{\"name\": \"rank {0}\"}}}}",
                 rank);
  int streams = 0;
  for (const Slice& slice : timeline.slices) streams = std::max(streams, slice.stream + 1);
  for (int stream = 0; stream < streams; ++stream) {
    fmt::format_to(out,
                   ",\n{{\"ph\": \"M\", \"pid\": {}, \"tid\": {}, \"name\": \"thread_name\", "
                   "\"args\": {{\"name\": \"{}\"}}}}",
                   rank, stream, stream < 2 ? kStreamNames[stream] : "stream");
  }
  for (const Slice& slice : by_start(timeline)) {
    const program::Operation& operation = program.operations[slice.task];
    fmt::format_to(out,
                   ",\n{{\"ph\": \"X\", \"pid\": {}, \"tid\": {}, \"ts\": {:.6f}, \"dur\": {:.6f}, "
                   "\"name\": \"{}\", \"cat\": \"{}\", \"args\": {{\"pass\": \"{}\", "
                   "\"layer\": {}, \"operation\": {}}}}}",
                   rank, slice.stream, slice.start_us, slice.duration_us, operation.name,
                   program::family_name(operation.shape), program::pass_name(operation.pass),
                   operation.layer, slice.task);
  }
  return text + "\n]}\n";
}

std::string timeline_table(const program::Program& program, const Timeline& timeline) {
  std::string text = fmt::format("{:>12} {:>10} {:>6}   {:<9} {:<9} {}\n", "start us", "us", "%",
                                 "stream", "pass", "operation");
  std::vector<bool> critical(timeline.slices.size(), false);
  for (const int task : timeline.critical_path) critical[task] = true;
  for (const Slice& slice : by_start(timeline)) {
    const program::Operation& operation = program.operations[slice.task];
    fmt::format_to(std::back_inserter(text), "{:>12.1f} {:>10.1f} {:>6.2f} {} {:<9} {:<9} {}\n",
                   slice.start_us, slice.duration_us,
                   100 * slice.duration_us / std::max(timeline.makespan_us, 1e-9),
                   critical[slice.task] ? '*' : ' ', kStreamNames[slice.stream == 0 ? 0 : 1],
                   program::pass_name(operation.pass), label(operation));
  }
  return text;
}

}  // namespace imhotep::simulator
