// The update: gradients are summed over the ranks that hold the same weights, clipped by the norm
// over all distinct parameters of the model, and applied by AdamW. With ZeRO-1 each rank of a
// group sums, updates and then shares one shard of the region.

#include <algorithm>

#include "core/program/builder.h"

namespace imhotep::program {
namespace {

struct RegionUpdate {
  Operand gradient;        // what this rank updates
  std::int64_t begin = 0;  // of that part, in the region
  std::int64_t elements = 0;
};

RegionUpdate reduce_region(Builder& b, std::size_t r) {
  Program& p = b.program();
  const Region& region = p.weights.regions[r];
  const Operand whole{.buffer = p.region_gradients[r]};
  if (b.plan.zero == 0) {
    b.all_reduce("gradient_sum", whole, region.elements, region.group);
    return {.gradient = whole, .begin = 0, .elements = region.elements};
  }
  const std::int64_t shard = region.shard_elements(), begin = shard * region.own_index;
  if (region.group.size() == 1) return {.gradient = whole, .begin = 0, .elements = shard};
  const Operand part = b.buffer("gradient_shard", shard, region.dtype);
  b.communicate("gradient_sum", ReduceScatter{shard}, region.group, {whole}, {part});
  return {.gradient = part, .begin = begin, .elements = shard};
}

void add_norm(Builder& b, const Region& region, const RegionUpdate& update, Operand total) {
  // Without ZeRO every rank of the group holds the whole sum; together they must count it once.
  const double copies = b.plan.zero == 0 ? static_cast<double>(region.group.size()) : 1.0;
  for (const NormRange& range : region.norm_ranges) {
    const std::int64_t begin = std::max(range.begin, update.begin);
    const std::int64_t end = std::min(range.end, update.begin + update.elements);
    if (begin >= end) continue;
    b.op("gradient_norm", SumSquares{.elements = end - begin, .scale = range.scale / copies},
         {shifted(update.gradient, begin - update.begin)}, {total});
  }
}

}  // namespace

Program build_update(const Plan& plan, Rank rank) {
  Builder b(plan, rank, Phase::Update, 0);
  b.pass = Pass::Update;
  const Operand total = b.buffer("norm_total", 1, Dtype::F64);
  const Operand norm = b.input("gradient_norm", 1, Dtype::F64);
  const Operand factor = b.buffer("clip_factor", 1, Dtype::F64);
  const Operand loss = b.input("loss", 1, Dtype::F64);
  b.op("zero_norm", Fill{1}, {}, {total});
  b.all_reduce("loss_sum", loss, 1, data_group(plan, rank));
  std::vector<RegionUpdate> updates;
  const std::size_t regions = b.program().weights.regions.size();
  for (std::size_t r = 0; r < regions; ++r) {
    updates.push_back(reduce_region(b, r));
    add_norm(b, b.program().weights.regions[r], updates[r], total);
  }
  b.all_reduce("norm_sum", total, 1, world_group(plan));
  b.op("clip", ClipScale{.limit = static_cast<float>(plan.workload.optimizer.clip)}, {total},
       {norm, factor});
  for (std::size_t r = 0; r < regions; ++r) {
    const Program& p = b.program();
    const Region& region = p.weights.regions[r];
    const RegionUpdate& update = updates[r];
    const Operand weights{.buffer = p.region_weights[r]}, m{.buffer = p.region_m[r]},
        v{.buffer = p.region_v[r]};
    const std::int64_t decayed =
        std::clamp<std::int64_t>(region.decayed - update.begin, 0, update.elements);
    const Operand master{.buffer = p.region_master[r]};
    b.op("adamw", AdamW{.elements = update.elements, .decayed = decayed}, {update.gradient, factor},
         {shifted(weights, update.begin), m, v, master});
    if (plan.zero == 1) {
      b.communicate("weight_gather", AllGather{update.elements}, region.group,
                    {shifted(weights, update.begin)}, {weights});
    }
  }
  return b.finish();
}

}  // namespace imhotep::program
