#pragma once
// Numbers that are not finite: where a step first wrote one, and whether weights hold any. Slow,
// and only for runs that fail or save: what lies on a device is copied to the host and read there.

#include <cstddef>
#include <string>

#include "executor/runtime/runner.h"

namespace imhotep::executor {

// Elements that an operation of training surely writes at its output of that index, one after the
// other. 0: routing decides how many, or they are no numbers.
[[nodiscard]] std::int64_t elements_written(const program::Shape& shape, std::size_t output);

// The first of `count` elements that is not finite, -1 if all are. `data` lies where the runner's
// buffers do.
[[nodiscard]] std::int64_t first_not_finite(const Runner& runner, const std::byte* data,
                                            Dtype dtype, std::int64_t count);

// Whether an operation that has just run left only finite numbers.
[[nodiscard]] bool wrote_finite(const Runner& runner, int program,
                                const program::Operation& operation);

// "layer 3 (blocks.3) is the first whose gradient is not finite (qkv_grad, backward)"
[[nodiscard]] std::string describe_not_finite(const program::Operation& operation);

// The tensor of this rank's first weight that is not finite, "" if all are.
[[nodiscard]] std::string weights_not_finite(const Runner& runner);

}  // namespace imhotep::executor
