#pragma once
// All ranks of an expert group in one process: sources pack their tokens, owners receive them.
// A source stands for one tensor group: `lanes` ranks that hold the same tokens, of which rank l
// sends the rows of lane l. An owner is one slicing copy of one expert rank.

#include "kernels/dispatch.h"
#include "tests/kernels/moe_support.h"

namespace imhotep::kernels::test {

struct World {
  std::int64_t experts = 4, degree = 4, lanes = 1, copies = 1, k = 1, tokens = 4, hidden = 3;

  [[nodiscard]] std::int64_t local() const { return experts / degree; }
  [[nodiscard]] std::int64_t peers() const { return degree / lanes * copies; }  // of one lane
  [[nodiscard]] std::int64_t routes() const { return tokens * k; }
};

// What one source knows: its tokens, their routes, and the tables of one of its lanes.
struct Source {
  Table expert;                // [T, k]
  std::vector<double> tokens;  // [T, hidden]
  Table order, position, segments;
  std::vector<Table> counts;              // by lane
  std::vector<std::vector<double>> send;  // by lane: rows of its segment
};

struct Packed {
  Table order, position, segments, counts;
};

inline Packed pack(const PackOrder& shape, const Table& expert) {
  const std::int64_t bound = (shape.token_end - shape.token_begin) * shape.k * shape.copies;
  Packed out{Table(bound, -9), Table(shape.tokens * shape.k * shape.copies, -9),
             Table(shape.lanes + 1, -9), Table(shape.experts / shape.lanes * shape.copies, -9)};
  pack_order(queue_of<double>(), shape,
             {.expert = expert.data(),
              .order = out.order.data(),
              .position = out.position.data(),
              .segments = out.segments.data(),
              .counts = out.counts.data()});
  return out;
}

inline PackOrder pack_shape(const World& w, std::int64_t lane) {
  return {.tokens = w.tokens,
          .experts = w.experts,
          .k = w.k,
          .token_begin = 0,
          .token_end = w.tokens,
          .expert_degree = w.degree,
          .lanes = w.lanes,
          .lane = lane,
          .copies = w.copies};
}

inline std::vector<double> gather(const std::vector<double>& in, const Table& index,
                                  const Table& range, std::int64_t hidden, bool inverse = false) {
  const std::int64_t rows = range[1] - range[0];
  std::vector<double> out(range[1] * hidden, -9);
  gather_rows(queue_of<double>(), {{rows, 0}, hidden, inverse},
              {in.data(), index.data(), range.data(), out.data()});
  if (!inverse) out.erase(out.begin(), out.begin() + range[0] * hidden);
  return out;
}

inline Source make_source(const World& w, Random& random, std::int64_t number) {
  Source source;
  source.expert = random.table(w.routes(), -1, w.experts - 1);
  for (std::int64_t t = 0; t < w.tokens; ++t) {
    for (std::int64_t c = 1; c < w.k; ++c) {  // a token takes an expert at most once
      for (std::int64_t b = 0; b < c; ++b) {
        if (source.expert[t * w.k + c] == source.expert[t * w.k + b])
          source.expert[t * w.k + c] = -1;
      }
    }
    for (std::int64_t i = 0; i < w.hidden; ++i) {
      source.tokens.push_back(static_cast<double>(number * 1000 + t) +
                              0.1 * static_cast<double>(i));
    }
  }
  for (std::int64_t lane = 0; lane < w.lanes; ++lane) {
    const Packed packed = pack(pack_shape(w, lane), source.expert);
    if (lane > 0) {  // the tables of the full order are the same in every lane
      REQUIRE(packed.order == source.order);
      REQUIRE(packed.position == source.position);
      REQUIRE(packed.segments == source.segments);
    }
    source.order = packed.order;
    source.position = packed.position;
    source.segments = packed.segments;
    source.counts.push_back(packed.counts);
    source.send.push_back(gather(source.tokens, packed.order,
                                 {packed.segments[lane], packed.segments[lane + 1]}, w.hidden));
  }
  return source;
}

// One expert rank and copy: what it received and how its rows are grouped.
struct Owner {
  std::int64_t lane = 0, peer = 0, rank = 0, copy = 0;
  std::vector<double> received, grouped;
  Table offsets, index, range;
  std::vector<std::int64_t> from;  // rows by source
};

inline std::int64_t sum_of(const Table& counts, std::int64_t first, std::int64_t count) {
  std::int64_t sum = 0;
  for (std::int64_t i = first; i < first + count; ++i) sum += counts[i];
  return sum;
}

inline Owner receive(const World& w, const std::vector<Source>& sources, Owner owner) {
  Table counts;
  const std::int64_t local = w.local();
  for (const Source& source : sources) {
    const Table& sent = source.counts[owner.lane];
    const auto& rows = source.send[owner.lane];
    const std::int64_t skip = sum_of(sent, 0, owner.peer * local) * w.hidden;
    const std::int64_t mine = sum_of(sent, owner.peer * local, local);
    counts.insert(counts.end(), sent.begin() + owner.peer * local,
                  sent.begin() + (owner.peer + 1) * local);
    owner.received.insert(owner.received.end(), rows.begin() + skip,
                          rows.begin() + skip + mine * w.hidden);
    owner.from.push_back(mine);
  }
  const std::int64_t total = sum_of(counts, 0, static_cast<std::int64_t>(counts.size()));
  owner.offsets.assign(local + 1, -9);
  owner.index.assign(total, -9);
  owner.range.assign(2, -9);
  receive_order(queue_of<double>(), {static_cast<std::int64_t>(sources.size()), local, {total, 0}},
                {counts.data(), owner.offsets.data(), owner.index.data(), owner.range.data()});
  REQUIRE(owner.range == Table{0, static_cast<std::int32_t>(total)});
  owner.grouped = gather(owner.received, owner.index, owner.range, w.hidden);
  return owner;
}

inline std::vector<Owner> exchange(const World& w, const std::vector<Source>& sources) {
  std::vector<Owner> owners;
  for (std::int64_t rank = 0; rank < w.degree; ++rank) {
    for (std::int64_t copy = 0; copy < w.copies; ++copy) {
      Owner owner;
      owner.lane = rank % w.lanes;
      owner.peer = rank / w.lanes * w.copies + copy;
      owner.rank = rank;
      owner.copy = copy;
      owners.push_back(receive(w, sources, owner));
    }
  }
  return owners;
}

}  // namespace imhotep::kernels::test
