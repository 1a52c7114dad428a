#pragma once
// The shape of every operation family: what the simulator prices and the kernels compute.
// A family is a type here; core/program lists them in one variant, so that a family which the
// simulator cannot price, or the executor cannot run, does not compile into either.
// Plain data, safe to include from .cu files. Units: counts of rows, columns and elements.
//
// Notation: T tokens, h hidden, f feed-forward width held by this rank, E experts of the layer,
// k routes a token takes, V vocabulary columns held by this rank.

#include <cstdint>

namespace imhotep {

// Rows whose number routing decides at run time: buffers hold `bound`, prices use `expected`.
struct Rows {
  std::int64_t bound = 0;
  double expected = 0;
};

// ---- dense mathematics

struct LayerNorm {
  std::int64_t rows = 0, hidden = 0;
};
struct LayerNormGrad {
  std::int64_t rows = 0, hidden = 0;
  bool accumulate = true;  // dx += rather than dx =
};

enum class Epilogue : std::uint8_t {
  None,
  Bias,          // c = a·b + bias
  BiasGelu,      // pre = a·b + bias; c = gelu(pre); pre is stored too
  BiasResidual,  // c = addend + a·b + bias
  GeluGrad,      // c = (a·b) · gelu'(pre)
  BiasGrad,      // c (+)= aᵀ·b, and bias gradient[m] (+)= sum over the rows of a[k,m]
};

// c[m,n] (+)= op(a)·op(b). Row-major. transpose_a: a is stored [k,m]; transpose_b: b is [n,k].
// The wide type is fp64 in fp64 programs and fp32 otherwise: router weights and their products.
struct Gemm {
  std::int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false;
  Epilogue epilogue = Epilogue::None;
  bool accumulate = false;
  bool wide = false;                    // c is wide
  bool wide_a = false, wide_b = false;  // an operand is wide; the bias has the type of b
};

struct ColumnSum {  // out[cols] (+)= sum over rows
  std::int64_t rows = 0, cols = 0;
  bool accumulate = true;
};
struct Add {  // y += x
  std::int64_t elements = 0;
};
struct Fill {  // y = 0
  std::int64_t elements = 0;
};

struct Embedding {
  std::int64_t rows = 0, hidden = 0;
  std::int64_t vocab_begin = 0, vocab_count = 0;  // rows of the table held here
  bool add_position = true;
};
struct EmbeddingGrad {
  std::int64_t rows = 0, hidden = 0;
  std::int64_t vocab_begin = 0, vocab_count = 0;
};

struct Attention {  // causal, full sequences
  std::int64_t batch = 0, heads = 0, sequence = 0, head_dim = 0;
};
struct AttentionGrad {
  std::int64_t batch = 0, heads = 0, sequence = 0, head_dim = 0;
};
struct AttentionCached {  // appends this step's keys and values to pages, then attends
  std::int64_t rows = 0, heads = 0, head_dim = 0;
  std::int64_t page_size = 0, max_pages = 0;  // max_pages: of one sequence
  double context = 0;                         // expected keys a row attends to
  std::int64_t sequences = 0;                 // most distinct sequences of a call; 0: unknown
};

// ---- routing

enum class DropPolicy : std::uint8_t {
  None,         // dropless
  Random,       // random token selection: uniform draws decide who survives (k = 1)
  Probability,  // the largest gate probabilities survive
  Position,     // first come, first served
};

// fp32 logits -> chosen expert and weight of every route, statistics of the balance loss.
struct Route {
  std::int64_t tokens = 0, experts = 0, k = 1;
  DropPolicy policy = DropPolicy::None;
  std::int64_t capacity = 0;  // routes an expert accepts from this rank's tokens; 0 = no limit
};
struct RouteGrad {
  std::int64_t tokens = 0, experts = 0, k = 1;
  double aux_scale = 0;       // weight of the balance loss in the step's loss
  double tokens_counted = 0;  // tokens behind the statistics
};

// Which routes this rank sends, in what order, to whom. See kernels/dispatch.h.
struct PackOrder {
  std::int64_t tokens = 0, experts = 0, k = 1;
  std::int64_t token_begin = 0, token_end = 0;  // tokens this rank answers for
  std::int64_t expert_degree = 1;               // ranks that divide the experts
  std::int64_t lanes = 1, lane = 0;  // coordinated: expert rank e belongs to lane e % lanes
  std::int64_t copies = 1;           // slicing peers that each get a copy of a row
};
struct ReceiveOrder {  // counts received -> rows grouped by local expert
  std::int64_t sources = 0, local_experts = 0;
  Rows rows;
};
struct GatherRows {  // out[i] = in[index[i]]
  Rows rows;
  std::int64_t hidden = 0;
  bool inverse = false;  // out[index[i]] = in[i]
};
struct Combine {  // y[token] = sum over routes of weight · sum over copies of row
  std::int64_t tokens = 0, k = 1, copies = 1, hidden = 0;
};
struct CombineGrad {  // d_row = weight · dy[token]; d_weight = <dy[token], row>
  std::int64_t tokens = 0, k = 1, copies = 1, hidden = 0;
};
struct ScatterSum {  // dn[token] (+)= sum over its rows: the backward of dispatch
  std::int64_t tokens = 0, k = 1, copies = 1, hidden = 0;
  bool accumulate = true;
};

enum class GroupedMode : std::uint8_t {
  Forward,     // c[r,n] = a[r,k] · w[e]ᵀ, w[e] is [n,k]
  GradInput,   // c[r,k] = d[r,n] · w[e]
  GradWeight,  // dw[e] (+)= d[r,n]ᵀ · a[r,k]
};
struct GroupedGemm {  // one GEMM an expert over its contiguous rows
  GroupedMode mode = GroupedMode::Forward;
  Rows rows;
  std::int64_t experts = 0, n = 0, k = 0;  // experts: held here; n, k as in Forward
  double active = 0;                       // expected experts with at least one row
  double busiest = 0;                      // expected share of the rows at the fullest expert
  Epilogue epilogue = Epilogue::None;      // Forward: Bias, BiasGelu; GradInput: GeluGrad
  bool accumulate = true;                  // GradWeight: dw += rather than dw =
};
struct GroupedColumnSum {  // out[e] += sum over the rows of expert e
  Rows rows;
  std::int64_t experts = 0, cols = 0;
};

struct ResidualMix {  // y = x + c0·moe + c1·mlp, (c0, c1) = softmax(coefficient logits)
  std::int64_t rows = 0, hidden = 0;
};
struct ResidualMixGrad {
  std::int64_t rows = 0, hidden = 0;
};

// ---- a decode step of few rows, fused (core/program/lower_decode.h)

struct NormGemm {  // c[rows,n] = epilogue(norm(x)[rows,k] · b[n,k]ᵀ)
  std::int64_t rows = 0, n = 0, k = 0;
  Epilogue epilogue = Epilogue::None;  // None, Bias or BiasGelu
};
// norm, gate logits and, with a residual branch (mlp: its width, else 0), coefficient logits and
// the first product of the branch's MLP.
struct NormGate {
  std::int64_t rows = 0, hidden = 0, experts = 0, mlp = 0;
};
// Logits -> routes without dropping, and hidden of every route to an expert that is held here:
// `experts` are chosen from, [first_expert, first_expert + local) are held (local 0: all).
// Statistics count the tokens [own_begin, own_end).
inline constexpr std::int64_t kAllTokens = std::int64_t{1} << 40;
struct FewExpertsUp {
  std::int64_t tokens = 0, experts = 0, k = 1, hidden = 0, ffn = 0;
  double active = 0;  // expected experts held here that some token chooses
  std::int64_t first_expert = 0, local = 0;
  std::int64_t own_begin = 0, own_end = kAllTokens;
  [[nodiscard]] constexpr std::int64_t held() const { return local > 0 ? local : experts; }
};
// y = x + the experts' results, mixed with the residual branch's if any. Ranks that each hold a
// part of this write partial sums: x and, unless the branch is sliced too, the residual branch are
// added for the tokens [own_begin, own_end) only.
struct FewExpertsDown {
  std::int64_t tokens = 0, experts = 0, k = 1, hidden = 0, ffn = 0;  // experts: held here
  bool residual = false;
  double active = 0;
  std::int64_t own_begin = 0, own_end = kAllTokens;
  bool sliced = false;  // the residual branch is a part of its own, for all tokens
  [[nodiscard]] constexpr bool owns(std::int64_t token) const {
    return token >= own_begin && token < own_end;
  }
};

// ---- head and loss

struct SoftmaxStats {  // per row: maximum, sum of exponentials, logit of the target
  std::int64_t rows = 0, cols = 0;
  std::int64_t vocab_begin = 0, valid = 0;  // columns that are real words
};
struct CrossEntropy {  // combines the statistics of all parts; may turn logits into gradients
  std::int64_t rows = 0, cols = 0, parts = 1;
  std::int64_t vocab_begin = 0, valid = 0;
  bool gradient = true;
  double scale = 1;  // of the gradient: 1 / tokens of the step
};
struct Distill {  // beta · tau² · KL(teacher || student), mean over rows, and its gradient
  std::int64_t rows = 0, cols = 0;
  float temperature = 1, beta = 1;
};
struct Sample {
  std::int64_t rows = 0, cols = 0, parts = 1, valid = 0;
};

// ---- update

struct SumSquares {  // total += scale · sum of squares (fp64)
  std::int64_t elements = 0;
  double scale = 1;
};
struct ClipScale {  // factor = min(1, limit / (norm + 1e-6))
  float limit = 0;  // 0: no clipping
};
struct AdamW {
  std::int64_t elements = 0, decayed = 0;  // the first `decayed` elements take weight decay
};

// ---- communication over a process group of the plan

enum class ExchangeAlgorithm : std::uint8_t { Flat, Hierarchical, Coordinated, AllGather };

struct AllReduce {
  std::int64_t elements = 0;
};
struct AllGather {
  std::int64_t elements = 0;  // contributed by each rank
};
struct ReduceScatter {
  std::int64_t elements = 0;  // kept by each rank
};
struct AllGatherRows {  // ragged: every rank's segment of rows, in rank order
  Rows rows;            // in total
  std::int64_t hidden = 0;
};
struct ExchangeCounts {  // rows for each (peer, local expert), before the rows themselves
  ExchangeAlgorithm algorithm = ExchangeAlgorithm::Flat;
  std::int64_t local_experts = 0;
};
// AllGather: every rank gets all rows of all, with the counts that say whose they are, and keeps
// its own; send.expected then includes the counts, as parts of a row.
struct ExchangeRows {
  ExchangeAlgorithm algorithm = ExchangeAlgorithm::Flat;
  Rows send, receive;
  std::int64_t hidden = 0;
  bool reverse = false;  // rows go back where they came from
};

}  // namespace imhotep
