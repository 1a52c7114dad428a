// How close the product of decoding (few rows times a large weight matrix) comes to the memory
// bandwidth of one thread. The yardstick is a loop that reads 1 GiB. Weights and the gigabyte are
// far larger than any cache; data are random, because a zero-filled page may be shared by all.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "kernels/gemm.h"

namespace {

using imhotep::Gemm;

// At the start of a cache line, as the buffers of a program are.
using Values = std::unique_ptr<float[], void (*)(void*)>;
Values make_values(std::int64_t count) {
  const auto bytes = static_cast<std::size_t>((count * 4 + 63) / 64 * 64);
  return {static_cast<float*>(std::aligned_alloc(64, bytes)), &std::free};
}

Values random_values(std::int64_t count) {
  Values values = make_values(count);
  std::uint64_t state = 1;
  for (std::int64_t i = 0; i < count; ++i) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    values[static_cast<std::size_t>(i)] =
        static_cast<float>(static_cast<double>(state >> 40) * 0x1p-24 - 0.5);
  }
  return values;
}

template <class Work>
double fastest_seconds(Work work) {
  double best = 1e30;
  for (int repeat = 0; repeat < 7; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    best = std::min(best, taken.count());
  }
  return best;
}

// Four independent sums of 64-bit words: limited by memory, not by the additions.
double read_gigabyte(const float* values, std::size_t count, std::uint64_t& sink) {
  const auto* words = reinterpret_cast<const std::uint64_t*>(values);
  return fastest_seconds([&] {
    std::uint64_t sums[32] = {};
    for (std::size_t i = 0; i + 32 <= count; i += 32) {
      for (std::size_t lane = 0; lane < 32; ++lane) sums[lane] += words[i + lane];
    }
    for (const std::uint64_t sum : sums) sink += sum;
  });
}

}  // namespace

int main() {
  constexpr std::int64_t kGibFloats = std::int64_t{1} << 28;
  const Values weights = random_values(kGibFloats);
  std::uint64_t sink = 0;
  const double gib_bytes = static_cast<double>(kGibFloats) * 4;
  const double read = gib_bytes / read_gigabyte(weights.get(), kGibFloats / 2, sink) / 1e9;
  std::printf("read loop                   %6.1f GB/s (checksum %llx)\n", read,
              static_cast<unsigned long long>(sink));
  for (const std::int64_t k : {512, 1024, 2048, 4096}) {
    for (const std::int64_t m : {1, 2, 4, 8, 12, 16, 32}) {
      const std::int64_t n = kGibFloats / k / 2;
      const Values x = random_values(m * k);
      const Values y = make_values(m * n);
      const Gemm shape{.m = m, .n = n, .k = k, .transpose_b = true};
      const double seconds = fastest_seconds([&] {
        imhotep::kernels::gemm({}, shape, {.a = x.get(), .b = weights.get(), .c = y.get()});
      });
      const double rate = static_cast<double>(n * k) * 4 / seconds / 1e9;
      std::printf("m %2lld  k %5lld  n %7lld   %6.1f GB/s  %5.1f %%  %6.1f GFLOP/s\n",
                  static_cast<long long>(m), static_cast<long long>(k), static_cast<long long>(n),
                  rate, 100 * rate / read, 2.0 * static_cast<double>(m * n * k) / seconds / 1e9);
    }
  }
  return 0;
}
