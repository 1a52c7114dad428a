#pragma once
// The GPU of this process: its place among the processes of its machine (local_rank.h), or the
// only one that CUDA_VISIBLE_DEVICES leaves it.

namespace imhotep::executor {

// Index of the device. Throws: Missing without one.
[[nodiscard]] int own_device();
// Throws: Missing when ranks of a plan of that many would have to share a GPU.
void check_own_device(int world);

}  // namespace imhotep::executor
