#include "executor/bench/device_data.h"

#include <cstring>

#include "kernels/cuda_api.h"
#include "kernels/initialize.h"

namespace imhotep::executor {

void put(const Runner& runner, std::byte* to, const void* from, std::int64_t bytes) {
  const kernels::Queue queue = runner.queue(Dtype::F32);
  if (queue.device == kernels::Device::Cpu) {
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
    return;
  }
  kernels::cuda_api().copy_in(to, from, bytes, queue.stream);
  runner.wait();
}

void get(const Runner& runner, void* to, const std::byte* from, std::int64_t bytes) {
  const kernels::Queue queue = runner.queue(Dtype::F32);
  if (queue.device == kernels::Device::Cpu) {
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
    return;
  }
  kernels::cuda_api().copy_out(to, from, bytes, queue.stream);
  runner.wait();
}

void fill_random(const Runner& runner, int program, BufferId id, double deviation,
                 std::uint64_t seed) {
  const program::Buffer& buffer = runner.program(program)[id];
  kernels::initialize(runner.queue(buffer.dtype),
                      {.seed = seed,
                       .key = static_cast<std::uint64_t>(id.value),
                       .count = buffer.elements,
                       .deviation = deviation},
                      {.out = runner.address(program, id)});
  runner.wait();
}

}  // namespace imhotep::executor
