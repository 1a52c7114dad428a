// Kernels that store into the memory of peers: counts and rows of an exchange, and sums and
// gathers of small vectors in one shot.
//
// Meeting: a block raises its flag at every peer (a store with release at system scope after a
// barrier of the block, so that all its stores are visible first) and waits until the blocks of
// equal index at all peers have raised theirs here. A first meeting says that the targets are
// free, a second that the data has arrived. Where data is staged in halves that alternate, the
// second meeting is enough: whoever writes a half for the second time knows from the meeting in
// between that its last reader is done.
//
// Thread mapping: rows are contiguous at both ends, so all threads of all blocks copy 16-byte
// pieces of one segment a peer, four in flight; own rows move while the first meeting is awaited.
// In peer_vector a thread has 16 bytes, and a block its own slice of the stage.

#include <algorithm>

#include "kernels/cuda_comm.h"
#include "kernels/cuda_common.cuh"
#include "kernels/peer_cuda.h"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kThreads = kStageBytes / 16;
constexpr int kFlight = 4;

__device__ inline void raise_flag(std::uint32_t* flag, std::uint32_t value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(flag), "r"(value) : "memory");
}
__device__ inline std::uint32_t read_flag(const std::uint32_t* flag) {
  std::uint32_t value = 0;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
  return value;
}

// Meetings of the blocks of one index. Requires: every thread of the block takes part; at least
// `size` threads.
class Meeting {
 public:
  __device__ explicit Meeting(const PeerGroup& group)
      : group_(group), epoch_(group.epoch[blockIdx.x]) {}

  __device__ void arrive() {
    ++epoch_;
    __syncthreads();
    const int peer = static_cast<int>(threadIdx.x);
    if (peer < group_.size && peer != group_.rank) {
      raise_flag(group_.flags[peer] + blockIdx.x * group_.size + group_.rank, epoch_);
    }
  }
  __device__ void wait() const {
    const int peer = static_cast<int>(threadIdx.x);
    if (peer < group_.size && peer != group_.rank) {
      const std::uint32_t* flag = group_.flags[group_.rank] + blockIdx.x * group_.size + peer;
      while (static_cast<std::int32_t>(read_flag(flag) - epoch_) < 0) {
      }
    }
    __syncthreads();
  }
  // Remembers the epoch for the next kernel.
  __device__ void end() const {
    if (threadIdx.x == 0) group_.epoch[blockIdx.x] = epoch_;
  }

 private:
  const PeerGroup& group_;
  std::uint32_t epoch_;
};

// ---- counts

__global__ void __launch_bounds__(kThreads) exchange_counts(const __grid_constant__ PeerCounts t) {
  const PeerGroup& g = t.group;
  const int local = static_cast<int>(t.local_experts), row = g.size * local;
  const std::uint32_t turn = *t.tables.turn + 1;
  const int half = static_cast<int>(turn & 1) * g.size;
  Meeting meeting(g);
  for (int i = static_cast<int>(threadIdx.x); i < row; i += kThreads) {
    const std::int32_t count = t.sent[i];
    for (int p = 0; p < g.size; ++p) t.tables.counts[p][(half + g.rank) * row + i] = count;
  }
  meeting.arrive();
  meeting.wait();
  const std::int32_t* counts = t.tables.counts[g.rank] + half * row;  // [sources, row]
  for (int i = static_cast<int>(threadIdx.x); i < row; i += kThreads) {
    t.received[i] = __ldcg(counts + i / local * row + g.rank * local + i % local);
  }
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int pair = static_cast<int>(threadIdx.x) / kWarp; pair < g.size * g.size;
       pair += kThreads / kWarp) {
    int sum = 0;
    for (int e = lane; e < local; e += kWarp) sum += __ldcg(counts + pair * local + e);
    for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
      sum += __shfl_xor_sync(0xffffffffU, sum, lanes);
    }
    if (lane == 0) t.tables.totals[half * g.size + pair] = sum;
  }
  __syncthreads();
  if (threadIdx.x == 0) *t.tables.turn = turn;
  meeting.end();
}

// ---- rows

struct Segment {
  std::int64_t from, to, rows;
};

// Rows for member p, and where they lie here and there. totals: [sources, destinations].
__device__ Segment segment_for(const PeerRows& t, const std::int32_t* totals, int half, int p) {
  const PeerGroup& g = t.group;
  if (t.move == PeerMove::Gather) {
    const std::int64_t begin = t.segments[g.rank];
    return {begin, begin, p == g.rank ? 0 : t.segments[g.rank + 1] - begin};
  }
  Segment s{0, 0, 0};
  if (t.move == PeerMove::Dispatch) {
    if (t.segments != nullptr) s.from = t.segments[t.lane];
    for (int q = 0; q < p; ++q) s.from += totals[g.rank * g.size + q];
    for (int q = 0; q < g.rank; ++q) s.to += totals[q * g.size + p];
    s.rows = totals[g.rank * g.size + p];
  } else {
    for (int q = 0; q < p; ++q) s.from += totals[q * g.size + g.rank];
    s.to = p == g.rank && t.segments != nullptr ? t.segments[t.lane]
                                                : t.tables.homes[g.rank][half * g.size + p];
    for (int q = 0; q < g.rank; ++q) s.to += totals[p * g.size + q];
    s.rows = totals[p * g.size + g.rank];
  }
  // Rows beyond a bound are not moved: the receiver reports them and computes none
  // (receive_order), and what comes home from it is whatever lay there.
  s.rows = max(std::int64_t{0}, min(s.rows, min(t.bound[p] - s.to, t.in_bound - s.from)));
  return s;
}

__device__ void copy_segment(const PeerRows& t, const Segment& s, int p) {
  const std::int64_t units = t.row_bytes / 16, count = s.rows * units;
  const uint4* from = static_cast<const uint4*>(t.in) + s.from * units;
  uint4* to = static_cast<uint4*>(t.out[p]) + s.to * units;
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t base = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; base < count;
       base += step * kFlight) {
    uint4 piece[kFlight];
#pragma unroll
    for (int j = 0; j < kFlight; ++j) {
      if (base + j * step < count) piece[j] = from[base + j * step];
    }
#pragma unroll
    for (int j = 0; j < kFlight; ++j) {
      if (base + j * step < count) to[base + j * step] = piece[j];
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    exchange_rows(const __grid_constant__ PeerRows t, FaultRecord* fault) {
  __shared__ Segment segments[kMostPeers];
  const PeerGroup& g = t.group;
  const int half = t.move == PeerMove::Gather ? 0 : static_cast<int>(*t.tables.turn & 1);
  const std::int32_t* totals = t.tables.totals + half * g.size * g.size;
  Meeting meeting(g);
  meeting.arrive();
  const int peer = static_cast<int>(threadIdx.x);
  if (peer < g.size) segments[peer] = segment_for(t, totals, half, peer);
  if (blockIdx.x == 0 && peer == 0 && t.move == PeerMove::Dispatch) {
    std::int64_t received = 0;
    for (int q = 0; q < g.size; ++q) received += totals[q * g.size + g.rank];
    if (received > t.bound[g.rank]) {
      report_fault(fault, Fault::RowsExceedBound, received, t.bound[g.rank]);
    }
  }
  __syncthreads();
  if (t.move != PeerMove::Gather) copy_segment(t, segments[g.rank], g.rank);
  meeting.wait();
  for (int j = 1; j < g.size; ++j) {
    const int p = (g.rank + j) % g.size;
    copy_segment(t, segments[p], p);
  }
  if (blockIdx.x == 0 && peer < g.size && t.move == PeerMove::Dispatch) {
    const std::int32_t home = t.segments != nullptr ? t.segments[t.lane] : 0;
    t.tables.homes[peer][half * g.size + g.rank] = home;
  }
  meeting.arrive();
  meeting.wait();
  meeting.end();
}

// ---- small vectors

template <class T>
struct Sum {
  using Wide = float;
};
template <>
struct Sum<double> {
  using Wide = double;
};
template <>
struct Sum<std::int32_t> {
  using Wide = std::int32_t;
};
template <class T>
__device__ typename Sum<T>::Wide widen(T x) {
  if constexpr (sizeof(T) == 2) {
    return to_float(x);
  } else {
    return x;
  }
}
template <class T>
__device__ T narrow(typename Sum<T>::Wide x) {
  if constexpr (sizeof(T) == 2) {
    return from_float<T>(x);
  } else {
    return x;
  }
}

// Elements [begin, begin + n) of a vector; n < kSize at its end.
template <class T>
__device__ Pack<T> load_part(const T* from, int n) {
  Pack<T> pack{};
  if (n == Pack<T>::kSize && reinterpret_cast<std::uintptr_t>(from) % 16 == 0) {
    return load_pack(from);
  }
  for (int i = 0; i < n; ++i) pack.value[i] = from[i];
  return pack;
}
template <class T>
__device__ void store_part(T* to, const Pack<T>& pack, int n) {
  if (n == Pack<T>::kSize && reinterpret_cast<std::uintptr_t>(to) % 16 == 0) {
    store_pack(to, pack);
    return;
  }
  for (int i = 0; i < n; ++i) to[i] = pack.value[i];
}

template <class T>
__global__ void __launch_bounds__(kThreads) share_vector(const __grid_constant__ PeerVector t) {
  constexpr int kSize = Pack<T>::kSize;
  const PeerGroup& g = t.group;
  const std::uint32_t turn = t.turn[blockIdx.x] + 1;
  const std::int64_t piece = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t begin = piece * kSize;
  const int n =
      static_cast<int>(max(std::int64_t{0}, min(std::int64_t{kSize}, t.elements - begin)));
  const bool scatter = t.share == PeerShare::Scatter;
  const auto* in = static_cast<const T*>(t.in) + begin;
  const Pack<T> own = load_part(in + (scatter ? g.rank * t.elements : 0), n);
  constexpr std::int64_t kMemberPieces = kMostStaged / 16;
  const std::int64_t half = static_cast<std::int64_t>(turn & 1) * g.size;
  Meeting meeting(g);
  if (n > 0) {
    for (int j = 1; j < g.size; ++j) {
      const int p = (g.rank + j) % g.size;
      auto* stage = static_cast<Pack<T>*>(t.stage[p]);
      stage[(half + g.rank) * kMemberPieces + piece] =
          scatter ? load_part(in + p * t.elements, n) : own;
    }
  }
  meeting.arrive();
  meeting.wait();
  const auto* stage = static_cast<const uint4*>(t.stage[g.rank]);
  typename Sum<T>::Wide sum[kSize] = {};
  for (int q = 0; q < g.size; ++q) {  // in rank order: the same bits everywhere
    Pack<T> part = own;
    if (q != g.rank) {
      const uint4 raw = __ldcg(stage + (half + q) * kMemberPieces + piece);
      part = *reinterpret_cast<const Pack<T>*>(&raw);
    }
    if (t.share == PeerShare::Gather) {
      store_part(static_cast<T*>(t.out) + q * t.elements + begin, part, n);
      continue;
    }
#pragma unroll
    for (int i = 0; i < kSize; ++i) sum[i] += widen(part.value[i]);
  }
  if (t.share != PeerShare::Gather) {
    Pack<T> result;
#pragma unroll
    for (int i = 0; i < kSize; ++i) result.value[i] = narrow<T>(sum[i]);
    store_part(static_cast<T*>(t.out) + begin, result, n);
  }
  if (threadIdx.x == 0) t.turn[blockIdx.x] = turn;
  meeting.end();
}

template <class T>
void launch_vector(const Queue& queue, const PeerVector& task) {
  const std::int64_t bytes = task.elements * static_cast<std::int64_t>(sizeof(T));
  expect(bytes <= kMostStaged, "peer_vector", "more bytes than the stage holds");
  const auto blocks =
      static_cast<unsigned>(std::max<std::int64_t>(1, ceil_div(bytes, kStageBytes)));
  share_vector<T><<<blocks, kThreads, 0, stream_of(queue)>>>(task);
  IMHOTEP_LAUNCHED("share_vector");
}

}  // namespace

void peer_counts(const Queue& queue, const PeerCounts& task) {
  exchange_counts<<<1, kThreads, 0, stream_of(queue)>>>(task);
  IMHOTEP_LAUNCHED("exchange_counts");
}

void peer_rows(const Queue& queue, const PeerRows& task) {
  expect(task.row_bytes % 16 == 0, "peer_rows", "rows must be multiples of 16 bytes");
  expect(task.blocks >= 1 && task.blocks <= kPeerBlocks, "peer_rows", "too many blocks");
  exchange_rows<<<static_cast<unsigned>(task.blocks), kThreads, 0, stream_of(queue)>>>(task,
                                                                                       queue.fault);
  IMHOTEP_LAUNCHED("exchange_rows");
}

void peer_vector(const Queue& queue, const PeerVector& task) {
  switch (task.dtype) {
    case Dtype::F32:
      return launch_vector<float>(queue, task);
    case Dtype::Bf16:
      return launch_vector<Bf16>(queue, task);
    case Dtype::F64:
      return launch_vector<double>(queue, task);
    case Dtype::I32:
      return launch_vector<std::int32_t>(queue, task);
    default:
      expect(false, "peer_vector", "expected fp32, bf16, fp64 or int32");
  }
}

}  // namespace imhotep::kernels::cuda
