#pragma once
// What one core of this machine can do at best, measured: the roofline of a profile, and the
// ceilings that `imhotep bench` compares with.

#include <map>
#include <string>

namespace imhotep::executor {

struct MachineRates {
  double gemm_flops_per_us = 0;  // fp32, 1024 x 1024 x 1024, random data, one thread
  double read_bytes_per_us = 0;  // one thread reading 1 GiB
};

// Takes about two seconds and 1 GiB of memory (less where less is free).
[[nodiscard]] MachineRates measure_machine_rates();

struct DeviceRates {
  double bf16_flops_per_us = 0;  // 8192 x 8192 x 8192, random data
  double fp32_flops_per_us = 0;  // 4096 x 4096 x 4096, full fp32
  double read_bytes_per_us = 0;  // 4 GiB read once
  double copy_bytes_per_us = 0;  // 4 GiB copied: bytes read and bytes written
};
// Of the current GPU, by the library's own kernels. Takes about two seconds and 8 GiB of its
// memory (less where less is free).
[[nodiscard]] DeviceRates measure_device_rates();

// A product alone, in well under a second: FLOPs per us of one core in fp32 (512 cubed) or of the
// current GPU in bf16 (4096 cubed). For comparing with itself, later.
[[nodiscard]] double quick_rate(bool gpu);

// Libraries that decide the rates: OpenBLAS with the kernels it chose, the compiler, and where a
// GPU is there its driver and CUDA's libraries.
[[nodiscard]] std::map<std::string, std::string> library_versions();

}  // namespace imhotep::executor
