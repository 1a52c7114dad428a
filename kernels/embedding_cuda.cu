// Forward: one access of a row a thread.
// Gradient: rows are sorted by token (a stable radix sort), so that equal tokens lie together, and
// cut into tiles. A block sums each run of its tile; a run that ends inside the tile it began in is
// added to the table at once, the others leave their parts in the workspace: slot 0 of a tile is
// the run that came from the tile before, slot 1 the run that goes on. A second kernel sums the
// parts of each such run in order. The order of every sum depends on the tokens alone, and a word
// that half of the rows share costs no more than others. Positions are treated the same way.

#include <bit>
#include <cub/device/device_radix_sort.cuh>

#include "kernels/cuda_lanes.cuh"
#include "kernels/embedding.h"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRunThreads = 256;
constexpr int kFewestTileRows = 16;

template <class T, int kStep>
__global__ void __launch_bounds__(kThreads) look_up(Embedding shape, EmbeddingOperands o) {
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kStep;
  if (i >= shape.rows * shape.hidden) return;
  const std::int64_t row = i / shape.hidden, column = i - row * shape.hidden;
  const std::int64_t token = o.tokens[row], local = token - shape.vocab_begin;
  Lanes<kStep> y = {};
  if (token >= 0 && local >= 0 && local < shape.vocab_count) {
    y = load_lanes<T, kStep>(static_cast<const T*>(o.table) + local * shape.hidden + column);
  }
  if (token >= 0 && shape.add_position) {
    const std::int64_t position = o.positions[row];
    const Lanes<kStep> added = load_lanes<T, kStep>(static_cast<const T*>(o.position_table) +
                                                    position * shape.hidden + column);
#pragma unroll
    for (int j = 0; j < kStep; ++j) y.at[j] += added.at[j];
  }
  store_lanes<T, kStep>(static_cast<T*>(o.y) + i, y);
}

struct Keys {
  std::uint32_t *key, *row;                // as they come
  std::uint32_t *sorted_key, *sorted_row;  // equal keys together, rows ascending among them
  float* part;                             // [tiles][2][hidden]
  std::uint32_t none;                      // of rows that add to nothing: above all others
  void* sorting;
  std::size_t sorting_bytes;
};

__global__ void __launch_bounds__(kThreads)
    make_keys(EmbeddingGrad shape, EmbeddingGradOperands o, bool by_position, Keys keys) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= shape.rows) return;
  const std::int64_t token = o.tokens[row], local = token - shape.vocab_begin;
  const bool held = token >= 0 && (by_position || (local >= 0 && local < shape.vocab_count));
  const std::int64_t key = by_position && held ? o.positions[row] : local;
  keys.key[row] = held ? static_cast<std::uint32_t>(key) : keys.none;
  keys.row[row] = static_cast<std::uint32_t>(row);
}

struct Tiles {
  std::int64_t rows, hidden;
  int tile_rows;
};

// Block (tile, slab): the runs of a tile, over kRunThreads * kStep columns.
template <class T, int kStep>
__global__ void __launch_bounds__(kRunThreads)
    sum_tile(Tiles tiles, Keys keys, const T* dy, T* out) {
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * tiles.tile_rows;
  const std::int64_t end = min(begin + tiles.tile_rows, tiles.rows);
  const std::int64_t column =
      (static_cast<std::int64_t>(blockIdx.y) * kRunThreads + threadIdx.x) * kStep;
  if (column >= tiles.hidden) return;
  const std::uint32_t before = begin > 0 ? keys.sorted_key[begin - 1] : keys.none;
  const std::uint32_t after = end < tiles.rows ? keys.sorted_key[end] : keys.none;
  float* part = keys.part + static_cast<std::int64_t>(blockIdx.x) * 2 * tiles.hidden + column;
  for (std::int64_t i = begin; i < end;) {
    const std::uint32_t key = keys.sorted_key[i];
    if (key == keys.none) return;
    const std::int64_t first = i;
    std::int64_t last = i + 1;
    while (last < end && keys.sorted_key[last] == key) ++last;
    Lanes<kStep> sum = {};
#pragma unroll 4
    for (; i < last; ++i) {
      const Lanes<kStep> x = load_lanes<T, kStep>(dy + keys.sorted_row[i] * tiles.hidden + column);
#pragma unroll
      for (int j = 0; j < kStep; ++j) sum.at[j] += x.at[j];
    }
    const bool continued = first == begin && before == key, goes_on = i == end && after == key;
    if (continued || goes_on) {
#pragma unroll
      for (int j = 0; j < kStep; ++j) part[(continued ? 0 : tiles.hidden) + j] = sum.at[j];
      continue;
    }
    T* to = out + static_cast<std::int64_t>(key) * tiles.hidden + column;
    Lanes<kStep> total = load_lanes<T, kStep>(to);
#pragma unroll
    for (int j = 0; j < kStep; ++j) total.at[j] += sum.at[j];
    store_lanes<T, kStep>(to, total);
  }
}

// Block (tile, slab): the run that begins in the tile and goes on, if there is one.
template <class T>
__global__ void __launch_bounds__(kRunThreads) sum_parts(Tiles tiles, Keys keys, T* out) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.y) * kRunThreads + threadIdx.x;
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * tiles.tile_rows;
  std::int64_t end = begin + tiles.tile_rows;
  if (end >= tiles.rows || column >= tiles.hidden) return;
  const std::uint32_t key = keys.sorted_key[end - 1];
  if (key == keys.none || keys.sorted_key[end] != key) return;
  if (begin > 0 && keys.sorted_key[begin] == key && keys.sorted_key[begin - 1] == key) return;
  const float* part = keys.part + static_cast<std::int64_t>(blockIdx.x) * 2 * tiles.hidden + column;
  float sum = part[tiles.hidden];
  for (; end < tiles.rows && keys.sorted_key[end] == key; end += tiles.tile_rows) {
    part += 2 * tiles.hidden;
    sum += *part;
  }
  T* to = out + static_cast<std::int64_t>(key) * tiles.hidden + column;
  *to = from_float<T>(to_float(*to) + sum);
}

template <class T>
void add_by_key(const Queue& queue, const EmbeddingGrad& shape, const Keys& keys, Tiles tiles,
                const void* dy, void* out) {
  const int key_bits = std::bit_width(keys.none);
  std::size_t bytes = keys.sorting_bytes;
  IMHOTEP_CUDA(cub::DeviceRadixSort::SortPairs(keys.sorting, bytes, keys.key, keys.sorted_key,
                                               keys.row, keys.sorted_row, shape.rows, 0, key_bits,
                                               stream_of(queue)));
  const auto count = static_cast<unsigned>(ceil_div(tiles.rows, tiles.tile_rows));
  by_step<T>(sixteen(tiles.hidden, sizeof(T), {dy, out}), [&](auto step) {
    constexpr int kStep = decltype(step)::value;
    const dim3 grid(count, blocks_for(tiles.hidden, kRunThreads * kStep, 1 << 15));
    sum_tile<T, kStep><<<grid, kRunThreads, 0, stream_of(queue)>>>(
        tiles, keys, static_cast<const T*>(dy), static_cast<T*>(out));
    IMHOTEP_LAUNCHED("sum_tile");
  });
  sum_parts<T><<<dim3(count, blocks_for(tiles.hidden, kRunThreads, 1 << 15)), kRunThreads, 0,
                 stream_of(queue)>>>(tiles, keys, static_cast<T*>(out));
  IMHOTEP_LAUNCHED("sum_parts");
}

// Divides the workspace; tiles grow until their parts fit.
Keys divide(const Queue& queue, const EmbeddingGrad& shape, Tiles& tiles) {
  Keys keys{};
  IMHOTEP_CUDA(cub::DeviceRadixSort::SortPairs(nullptr, keys.sorting_bytes, keys.key,
                                               keys.sorted_key, keys.row, keys.sorted_row,
                                               shape.rows, 0, 32, stream_of(queue)));
  constexpr std::int64_t kAlign = 256;
  const std::int64_t table =
      ceil_div(shape.rows * static_cast<std::int64_t>(sizeof(std::uint32_t)), kAlign) * kAlign;
  const std::int64_t sorting =
      ceil_div(static_cast<std::int64_t>(keys.sorting_bytes), kAlign) * kAlign;
  const std::int64_t left = queue.workspace_bytes - 4 * table - sorting;
  const std::int64_t a_tile = 2 * shape.hidden * static_cast<std::int64_t>(sizeof(float));
  expect(left >= a_tile, "embedding_grad", "more rows than the workspace can sort");
  while (ceil_div(shape.rows, tiles.tile_rows) * a_tile > left) tiles.tile_rows *= 2;
  auto* at = static_cast<char*>(queue.workspace);
  for (std::uint32_t** each : {&keys.key, &keys.row, &keys.sorted_key, &keys.sorted_row}) {
    *each = reinterpret_cast<std::uint32_t*>(at);
    at += table;
  }
  keys.sorting = at;
  keys.part = reinterpret_cast<float*>(at + sorting);
  return keys;
}

}  // namespace

void embedding(const Queue& queue, const Embedding& shape, const EmbeddingOperands& o) {
  if (shape.rows == 0 || shape.hidden == 0) return;
  by_type(queue, "embedding", [&](auto zero) {
    using T = decltype(zero);
    const void* positions = shape.add_position ? o.position_table : nullptr;
    by_step<T>(sixteen(shape.hidden, sizeof(T), {o.table, positions, o.y}), [&](auto step) {
      constexpr int kStep = decltype(step)::value;
      look_up<T, kStep><<<blocks_for(shape.rows * shape.hidden, kThreads * kStep, 0x7fffffff),
                          kThreads, 0, stream_of(queue)>>>(shape, o);
      IMHOTEP_LAUNCHED("embedding");
    });
  });
}

void embedding_grad(const Queue& queue, const EmbeddingGrad& shape,
                    const EmbeddingGradOperands& o) {
  if (shape.rows == 0 || shape.hidden == 0) return;
  constexpr std::uint32_t kAboveAllPositions = 0xffffffffU;
  Tiles tiles{.rows = shape.rows, .hidden = shape.hidden, .tile_rows = kFewestTileRows};
  Keys keys = divide(queue, shape, tiles);
  const auto add = [&](bool by_position, std::uint32_t none, void* out) {
    keys.none = none;
    make_keys<<<blocks_for(shape.rows, kThreads, 0x7fffffff), kThreads, 0, stream_of(queue)>>>(
        shape, o, by_position, keys);
    IMHOTEP_LAUNCHED("make_keys");
    by_type(queue, "embedding_grad",
            [&](auto zero) { add_by_key<decltype(zero)>(queue, shape, keys, tiles, o.dy, out); });
  };
  if (shape.vocab_count > 0) add(false, static_cast<std::uint32_t>(shape.vocab_count), o.dtable);
  if (o.dposition_table != nullptr) add(true, kAboveAllPositions, o.dposition_table);
}

}  // namespace imhotep::kernels::cuda
