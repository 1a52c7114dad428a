// Words are ordered by one 64-bit number: the logit, turned so that the largest comes first, then
// the word. `survey` reduces pieces of 2048 words to a maximum and sums, over the whole device;
// `choose` gives a block to a row. The most probable word needs nothing more. Without limits the
// draw walks over the pieces, then over the words of one. With limits the row is taken in bands:
// the next words of the order, at most 2048, found by counting leading bits, sorted in shared
// memory. Nearly always the first band decides; the others make the answer exact.

#include "core/base/random.h"
#include "kernels/sample_bands.cuh"
#include "kernels/softmax.cuh"

namespace imhotep::kernels::cuda {
namespace {

constexpr int kSurveyThreads = 256;
constexpr int kPieceWords = 2 * kBandThreads;  // two words a thread of `choose`

struct Piece {
  Place best;     // of the piece's most probable word
  double weight;  // sum of e^((x - highest) / temperature); 0 at temperature 0
  float sum;      // the same at temperature 1
};

struct Pieces {
  Piece* piece;  // [rows][count]
  int count, a_part;
};

template <class T, int kStep>
__global__ void __launch_bounds__(kSurveyThreads)
    survey(Sample shape, SampleOperands o, Pieces pieces) {
  __shared__ Place shared_place[kWarp];
  __shared__ double shared_weight[kWarp];
  __shared__ float shared_sum[kWarp];
  const int index = static_cast<int>(blockIdx.x);
  const std::int64_t row = blockIdx.y, part = index / pieces.a_part;
  const std::int64_t begin = static_cast<std::int64_t>(index % pieces.a_part) * kPieceWords;
  const std::int64_t end = valid_columns(shape.valid - part * shape.cols, shape.cols);
  const T* logits = static_cast<const T*>(o.logits) + (part * shape.rows + row) * shape.cols;
  constexpr int kTurns = kPieceWords / (kSurveyThreads * kStep);
  Lanes<kStep> x[kTurns];
  Place best = kNoPlace;
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    const std::int64_t i = begin + (turn * kSurveyThreads + static_cast<int>(threadIdx.x)) * kStep;
#pragma unroll
    for (int j = 0; j < kStep; ++j) x[turn].at[j] = -INFINITY;
    if (i >= end) continue;
    x[turn] = masked<T, kStep>(logits, i, end);
#pragma unroll
    for (int j = 0; j < kStep; ++j) {
      const Place place = place_of(x[turn].at[j], part * shape.cols + i + j);
      if (i + j < end && place < best) best = place;
    }
  }
  best = block_first(best, shared_place);
  const float high = logit_of(best);
  const Weights weights{high, o.parameters[row].temperature};
  float sum = 0;
  double weight = 0;
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
#pragma unroll
    for (int j = 0; j < kStep; ++j) {
      if (x[turn].at[j] == -INFINITY) continue;
      sum += expf(x[turn].at[j] - high);
      if (weights.temperature > 0) weight += weights.of(x[turn].at[j]);
    }
  }
  sum = block_sum(sum, shared_sum);
  weight = block_sum(weight, shared_weight);
  if (threadIdx.x == 0) pieces.piece[row * pieces.count + index] = {best, weight, sum};
}

// What all words of a row give together.
struct RowTotals {
  Place best;
  double log_sum, weight;
};

__device__ RowTotals totals_of(const Piece* piece, int count, double temperature, Shared& shared) {
  Place best = kNoPlace;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kBandThreads) {
    if (piece[i].best < best) best = piece[i].best;
  }
  best = block_first(best, shared.place);
  const double high = static_cast<double>(logit_of(best));
  double sum = 0, weight = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kBandThreads) {
    if (piece[i].best == kNoPlace) continue;
    const double below = static_cast<double>(logit_of(piece[i].best)) - high;
    sum += static_cast<double>(piece[i].sum) * exp(below);
    if (temperature > 0) weight += piece[i].weight * exp(below / temperature);
  }
  sum = block_sum(sum, shared.sum);
  weight = block_sum(weight, shared.weight);
  return {best, high + log(sum), weight};
}

// The first piece, then the first word in it, where the running sum of weights passes `target`.
template <class T>
__device__ Place draw_unlimited(const Row<T>& row, const Pieces& pieces, const Piece* piece,
                                Weights weights, double target, Shared& shared) {
  const int thread = static_cast<int>(threadIdx.x);
  double passed = 0;
  for (int first = 0; first < pieces.count; first += kBandThreads) {
    const int i = first + thread;
    double weight = 0;
    if (i < pieces.count && piece[i].best != kNoPlace) {
      weight = piece[i].weight * weights.of(piece[i].best);
    }
    const double upto = passed + block_scan(weight, shared);
    const int found = block_least(upto > target ? i : pieces.count, shared);
    if (found == pieces.count) {
      passed = shared.total + passed;
      __syncthreads();
      continue;
    }
    if (i == found) shared.carry = upto - weight;
    __syncthreads();
    const std::int64_t part = found / pieces.a_part;
    const std::int64_t begin = static_cast<std::int64_t>(found % pieces.a_part) * kPieceWords;
    const std::int64_t end = row.end_of(part);
    double mine[2] = {};
    for (int j = 0; j < 2; ++j) {
      const std::int64_t column = begin + 2 * thread + j;
      if (column < end) mine[j] = weights.of(row.logit(part, column));
    }
    const double before = shared.carry + block_scan(mine[0] + mine[1], shared) - mine[0] - mine[1];
    int word = kPieceWords;
    if (before + mine[0] > target) {
      word = 2 * thread;
    } else if (before + mine[0] + mine[1] > target) {
      word = 2 * thread + 1;
    }
    word = block_least(word, shared);
    if (begin + word >= end) return piece[found].best;  // rounding: the sums were made twice
    return place_of(row.logit(part, begin + word), part * row.shape.cols + begin + word);
  }
  return piece[0].best;
}

template <class T, int kStep>
__global__ void __launch_bounds__(kBandThreads)
    choose(Sample shape, SampleOperands o, Pieces pieces) {
  __shared__ Shared shared;
  const std::int64_t index = blockIdx.x;
  const SampleParameters by = o.parameters[index];
  const Piece* piece = pieces.piece + index * pieces.count;
  const RowTotals totals = totals_of(piece, pieces.count, by.temperature, shared);
  const Row<T> row{shape, static_cast<const T*>(o.logits), index};
  Place chosen = totals.best;
  if (by.temperature > 0) {
    const Weights weights{logit_of(totals.best), by.temperature};
    const double drawn = uniform(by.seed, by.counter);
    const bool few = by.top_k > 0 && by.top_k<shape.valid, nucleus = by.top_p> 0 && by.top_p < 1;
    if (!few && !nucleus) {
      chosen = draw_unlimited<T>(row, pieces, piece, weights, drawn * totals.weight, shared);
    } else {
      Bands<T, kStep> bands{row, weights, shared};
      const Kept all{.count = few ? by.top_k : shape.valid, .weight = totals.weight};
      chosen = bands.draw(all, few, nucleus ? by.top_p : 1.0, drawn, totals.best);
    }
  }
  if (threadIdx.x != 0) return;
  o.tokens[index] = word_of(chosen);
  static_cast<float*>(o.logprob)[index] =
      static_cast<float>(static_cast<double>(logit_of(chosen)) - totals.log_sum);
}

}  // namespace

void sample(const Queue& queue, const Sample& shape, const SampleOperands& o) {
  if (shape.rows == 0) return;
  const std::int64_t a_part = std::max<std::int64_t>(1, ceil_div(shape.cols, kPieceWords));
  const std::int64_t count = a_part * shape.parts;
  expect(shape.rows * count * static_cast<std::int64_t>(sizeof(Piece)) <= queue.workspace_bytes &&
             shape.rows < (1 << 16) && shape.parts * shape.cols < (std::int64_t{1} << 31),
         "sample", "more rows or words than the kernel takes");
  const Pieces pieces{.piece = static_cast<Piece*>(queue.workspace),
                      .count = static_cast<int>(count),
                      .a_part = static_cast<int>(a_part)};
  by_type(queue, "sample", [&](auto zero) {
    using T = decltype(zero);
    by_step<T>(sixteen(shape.cols, sizeof(T), {o.logits}), [&](auto step) {
      constexpr int kStep = decltype(step)::value;
      const dim3 grid(static_cast<unsigned>(count), static_cast<unsigned>(shape.rows));
      survey<T, kStep><<<grid, kSurveyThreads, 0, stream_of(queue)>>>(shape, o, pieces);
      IMHOTEP_LAUNCHED("survey");
      choose<T, kStep><<<static_cast<unsigned>(shape.rows), kBandThreads, 0, stream_of(queue)>>>(
          shape, o, pieces);
      IMHOTEP_LAUNCHED("choose");
    });
  });
}

}  // namespace imhotep::kernels::cuda
