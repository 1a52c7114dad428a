#pragma once
// Words of a row in order of probability, a band at a time. A band is an interval of places that
// holds at most kBand words, found by counting words by the leading 11 bits of their place, then by
// the next 11 inside a count that is too large, and so on: places are distinct, so it ends.
// One block of kBandThreads threads; every function is called by all of them.

#include "kernels/cuda_lanes.cuh"
#include "kernels/sample.h"

namespace imhotep::kernels::cuda {

inline constexpr int kBandThreads = 1024;
inline constexpr int kBand = 2 * kBandThreads;
inline constexpr int kBinBits = 11, kBins = 1 << kBinBits;

// Place of a word in the order: the larger logit first, of equal ones the lower word.
using Place = unsigned long long;
inline constexpr Place kNoPlace = ~0ULL;

__device__ inline Place place_of(float logit, std::int64_t word) {
  const unsigned bits = __float_as_uint(logit + 0.0F);  // -0 and 0 are equal
  const unsigned ascending = (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
  return (static_cast<Place>(~ascending) << 32) | static_cast<unsigned>(word);
}
__device__ inline float logit_of(Place place) {
  const unsigned ascending = ~static_cast<unsigned>(place >> 32);
  return __uint_as_float((ascending & 0x80000000U) != 0 ? ascending & 0x7fffffffU : ~ascending);
}
__device__ inline std::int32_t word_of(Place place) {
  return static_cast<std::int32_t>(place & 0xffffffffU);
}

struct Shared {
  Place band[kBand];
  int bins[2][kBins];  // two copies: neighbours seldom add to the same one
  Place place[kWarp];
  double scan[kWarp], sum[kWarp], weight[kWarp];
  int least[kWarp];
  double total, carry;
  int count;
};

// The least of all threads' places, the same at every thread.
__device__ inline Place block_first(Place x, Place* shared) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  const auto least = [](Place y) {
    for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
      const Place other = __shfl_xor_sync(0xffffffffU, y, lanes);
      y = other < y ? other : y;
    }
    return y;
  };
  x = least(x);
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  return least(lane < static_cast<int>(blockDim.x) / kWarp ? shared[lane] : kNoPlace);
}

__device__ inline int block_least(int x, Shared& shared) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  __syncthreads();
  x = __reduce_min_sync(0xffffffffU, x);
  if (lane == 0) shared.least[warp] = x;
  __syncthreads();
  return __reduce_min_sync(0xffffffffU, shared.least[lane]);
}

// Sum over this thread and those before it; shared.total is the whole.
template <class T>
__device__ T block_scan(T x, Shared& shared) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  const auto scan = [lane](T y) {
    for (int lanes = 1; lanes < kWarp; lanes *= 2) {
      const T other = __shfl_up_sync(0xffffffffU, y, lanes);
      if (lane >= lanes) y += other;
    }
    return y;
  };
  __syncthreads();
  x = scan(x);
  if (lane == kWarp - 1) shared.scan[warp] = static_cast<double>(x);
  __syncthreads();
  if (warp == 0) {
    const double upto = scan(static_cast<T>(shared.scan[lane]));
    shared.scan[lane] = upto;
    if (lane == kWarp - 1) shared.total = upto;
  }
  __syncthreads();
  return warp > 0 ? x + static_cast<T>(shared.scan[warp - 1]) : x;
}

template <class T>
struct Row {
  Sample shape;
  const T* logits;
  std::int64_t row;

  // Valid columns of a part.
  __device__ std::int64_t end_of(std::int64_t part) const {
    const std::int64_t left = shape.valid - part * shape.cols;
    return left < 0 ? 0 : left < shape.cols ? left : shape.cols;
  }
  __device__ const T* part_of(std::int64_t part) const {
    return logits + (part * shape.rows + row) * shape.cols;
  }
  __device__ float logit(std::int64_t part, std::int64_t column) const {
    return to_float(part_of(part)[column]);
  }
  // visit(place) for every valid word.
  template <int kStep, class Visit>
  __device__ void each(Visit visit) const {
    for (std::int64_t part = 0; part < shape.parts; ++part) {
      const T* from = part_of(part);
      const std::int64_t end = end_of(part), first = part * shape.cols;
#pragma unroll 2
      for (std::int64_t i = threadIdx.x * kStep; i < end; i += kBandThreads * kStep) {
        const Lanes<kStep> x = load_lanes<T, kStep>(from + i);
#pragma unroll
        for (int j = 0; j < kStep; ++j) {
          if (i + j < end) visit(place_of(x.at[j], first + i + j));
        }
      }
    }
  }
};

struct Weights {
  float high;
  double temperature;
  __device__ double of(float logit) const {
    return exp(static_cast<double>(logit - high) / temperature);
  }
  __device__ double of(Place place) const { return of(logit_of(place)); }
};

struct Kept {  // the first words of the order
  std::int64_t count;
  double weight;
};

template <class T, int kStep>
class Bands {
 public:
  __device__ Bands(const Row<T>& row, const Weights& weights, Shared& shared)
      : row_(row), weights_(weights), shared_(shared) {}

  // Draws from the first all.count words, of which the first that reach top_p remain.
  // all.weight: of all words; unused if `few` (then it is summed).
  __device__ Place draw(Kept all, bool few, double top_p, double drawn, Place best) {
    if (few) all.weight = walk(all.count, INFINITY, false).kept.weight;
    if (top_p < 1) {
      const Found found = walk(all.count, top_p * all.weight, false);
      all = found.kept;
    }
    const Found found = walk(all.count, drawn * all.weight, true);
    return found.place == kNoPlace ? best : found.place;
  }

 private:
  struct Found {
    Place place;  // kNoPlace: the sum does not reach the target
    Kept kept;    // the words up to it, or all that were walked over
  };

  // The first of `count` words whose running sum of weights reaches the target (passes it, if
  // strict).
  __device__ Found walk(std::int64_t count, double target, bool strict) {
    const int thread = static_cast<int>(threadIdx.x);
    Kept passed{0, 0.0};
    for (Place begin = 0;; begin = end_) {
      if (!loaded_ || begin_ != begin) load(begin);
      const std::int64_t left = count - passed.count;
      const int size = left < size_ ? static_cast<int>(left) : size_;
      double mine[2] = {};
      for (int j = 0; j < 2; ++j) {
        if (2 * thread + j < size) mine[j] = weights_.of(shared_.band[2 * thread + j]);
      }
      const double after = passed.weight + block_scan(mine[0] + mine[1], shared_);
      const double between = after - mine[1];
      const auto reaches = [&](double sum) { return strict ? sum > target : sum >= target; };
      int index = kBand;
      if (2 * thread < size && reaches(between)) {
        index = 2 * thread;
      } else if (2 * thread + 1 < size && reaches(after)) {
        index = 2 * thread + 1;
      }
      const double sum = passed.weight + shared_.total;
      const int found = block_least(index, shared_);
      if (found < kBand) {
        if (thread == found / 2) shared_.carry = found % 2 == 0 ? between : after;
        __syncthreads();
        return {shared_.band[found], {passed.count + found + 1, shared_.carry}};
      }
      passed = {passed.count + size, sum};
      if (passed.count >= count || end_ == kNoPlace) return {kNoPlace, passed};
      __syncthreads();
    }
  }

  // Finds, gathers and sorts the band that begins at a place.
  __device__ void load(Place begin) {
    begin_ = begin;
    end_ = end_from(begin);
    loaded_ = true;
    __syncthreads();
    if (threadIdx.x == 0) shared_.count = 0;
    __syncthreads();
    row_.template each<kStep>([&](Place place) {
      if (place >= begin_ && place < end_) shared_.band[atomicAdd(&shared_.count, 1)] = place;
    });
    __syncthreads();
    size_ = shared_.count;
    int padded = 1;
    while (padded < size_) padded *= 2;
    for (int i = size_ + static_cast<int>(threadIdx.x); i < padded; i += kBandThreads) {
      shared_.band[i] = kNoPlace;
    }
    sort(padded);
  }

  // Bitonic sort.
  __device__ void sort(int size) {
    const int thread = static_cast<int>(threadIdx.x);
    for (int run = 2; run <= size; run *= 2) {
      for (int step = run / 2; step > 0; step /= 2) {
        __syncthreads();
        const int low = 2 * thread - (thread & (step - 1)), high = low + step;
        if (high < size) {
          const Place a = shared_.band[low], b = shared_.band[high];
          const bool ascending = (low & run) == 0;
          if ((a > b) == ascending) shared_.band[low] = b, shared_.band[high] = a;
        }
      }
    }
    __syncthreads();
  }

  // The place where a band that begins at `begin` ends: as late as whole counts allow.
  __device__ Place end_from(Place begin) {
    constexpr int kPlaceBits = 64;
    const int thread = static_cast<int>(threadIdx.x);
    int shift = kPlaceBits - kBinBits;
    Place base = 0;  // the window: places whose leading bits are `base` and one of kBins more
    for (;;) {
      __syncthreads();
      for (int i = thread; i < 2 * kBins; i += kBandThreads) (&shared_.bins[0][0])[i] = 0;
      __syncthreads();
      row_.template each<kStep>([&](Place place) {
        const Place bin = (place >> shift) - base;
        if (place >= begin && (place >> shift) >= base && bin < kBins) {
          atomicAdd(&shared_.bins[thread & 1][bin], 1);
        }
      });
      __syncthreads();
      int mine[2];
      for (int j = 0; j < 2; ++j) {
        mine[j] = shared_.bins[0][2 * thread + j] + shared_.bins[1][2 * thread + j];
      }
      const int after = block_scan(mine[0] + mine[1], shared_), between = after - mine[1];
      int index = kBins;
      if (between > kBand) {
        index = 2 * thread;
      } else if (after > kBand) {
        index = 2 * thread + 1;
      }
      const int over = block_least(index, shared_);
      if (over == kBins) return kNoPlace;  // only of the first window: all that is left fits
      if (thread == over / 2) {
        shared_.count = over % 2 == 0 ? between - mine[0] : between;  // words before that bin
      }
      __syncthreads();
      const int before = shared_.count;
      if (before > 0) return (base + static_cast<Place>(over)) << shift;
      const int next = shift > kBinBits ? shift - kBinBits : 0;
      base = (base + static_cast<Place>(over)) << (shift - next);
      shift = next;
    }
  }

  Row<T> row_;
  Weights weights_;
  Shared& shared_;
  Place begin_ = 0, end_ = 0;
  int size_ = 0;
  bool loaded_ = false;
};

}  // namespace imhotep::kernels::cuda
