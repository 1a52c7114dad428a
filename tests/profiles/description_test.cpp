#include "profiles/description.h"

#include <doctest/doctest.h>

#include <set>
#include <string>

using namespace imhotep;
using namespace imhotep::profiles;

namespace {

Work work(const program::Shape& shape, Dtype dtype = Dtype::F32) {
  return work_of(describe(shape), dtype);
}

}  // namespace

TEST_CASE("every family has a name, variants without repetition and keys that fit") {
  std::set<std::string_view> names;
  for (int f = 0; f < kFamilies; ++f) {
    const FamilyInfo& info = family_of(f);
    CAPTURE(info.name);
    CHECK(names.insert(info.name).second);
    CHECK(!info.keys.empty());
    CHECK(info.keys.size() <= kMostKeys);
    const std::set<std::string> variants(info.variants.begin(), info.variants.end());
    CHECK(variants.size() == info.variants.size());
  }
}

TEST_CASE("a row of a profile stands for the shape that was described") {
  const program::Shape shapes[] = {
      Gemm{.m = 64, .n = 128, .k = 32, .transpose_b = true, .epilogue = Epilogue::BiasGelu},
      Gemm{.m = 3, .n = 5, .k = 7, .transpose_a = true, .accumulate = true, .wide = true},
      GroupedGemm{.mode = GroupedMode::GradWeight,
                  .rows = {100, 40.5},
                  .experts = 4,
                  .n = 16,
                  .k = 8,
                  .active = 3.5,
                  .busiest = 0.4},
      ClipScale{},
      Attention{2, 4, 128, 64},
      ExchangeRows{.algorithm = ExchangeAlgorithm::Flat}};
  for (const program::Shape& shape : shapes) {
    const Description described = describe(shape);
    const auto found = description_of(family_of(described.family).name, variant_text(described),
                                      {described.key.data(), described.keys});
    REQUIRE(found.has_value());
    CHECK(*found == described);
  }
  CHECK_FALSE(description_of("gemm", "xy", std::array{1.0, 1.0, 1.0}).has_value());
  CHECK_FALSE(description_of("gemm", "nt", std::array{1.0, 1.0}).has_value());
  CHECK_FALSE(description_of("germ", "", std::array{1.0}).has_value());
}

TEST_CASE("variants are readable") {
  CHECK(variant_text(describe(Gemm{.transpose_b = true, .epilogue = Epilogue::BiasGelu})) ==
        "nt bias_gelu");
  CHECK(variant_text(describe(Gemm{.transpose_a = true, .accumulate = true})) == "tn accumulate");
  CHECK(variant_text(describe(GroupedGemm{.mode = GroupedMode::GradInput})) == "grad_input");
  CHECK(variant_text(describe(GroupedGemm{.mode = GroupedMode::GradWeight})) ==
        "grad_weight accumulate");
  CHECK(variant_text(describe(GroupedGemm{.epilogue = Epilogue::Bias})) == "forward bias");
  CHECK(variant_text(describe(Route{.policy = DropPolicy::Position})) == "position");
}

TEST_CASE("work follows the textbook") {
  CHECK(work(Gemm{.m = 4, .n = 5, .k = 6}).flops == 240);
  CHECK(work(Gemm{.m = 4, .n = 5, .k = 6}).bytes == 4 * (24 + 30 + 20));
  CHECK(work(Gemm{.m = 4, .n = 5, .k = 6}, Dtype::Bf16).bytes == 2 * (24 + 30 + 20));
  CHECK(work(Gemm{.m = 4, .n = 5, .k = 6, .accumulate = true}).bytes == 4 * (24 + 30 + 40));
  CHECK(work(AdamW{.elements = 100}).bytes == 2800);
  CHECK(work(Add{.elements = 10}).bytes == 120);
  CHECK(work(LayerNorm{.rows = 3, .hidden = 8}).bytes == 192);
}

TEST_CASE("experts without rows cost nothing") {
  GroupedGemm shape{.rows = {64, 8}, .experts = 32, .n = 16, .k = 4, .active = 5, .busiest = 0.3};
  CHECK(work(shape).bytes == 4 * (5 * 64 + 8 * 20));
  CHECK(work(shape).flops == 2.0 * 8 * 16 * 4);
  shape.experts = 64;
  CHECK(work(shape).bytes == 4 * (5 * 64 + 8 * 20));
}

TEST_CASE("collectives count bytes as the profile format says") {
  CHECK(collective_bytes(describe(AllReduce{100}), Dtype::F32, 8) == 400);
  CHECK(collective_bytes(describe(AllGather{100}), Dtype::F32, 8) == 3200);
  CHECK(collective_bytes(describe(ReduceScatter{100}), Dtype::Bf16, 8) == 1600);
  CHECK(collective_bytes(describe(AllGatherRows{.rows = {50, 10}, .hidden = 4}), Dtype::F32, 8) ==
        160);
  const ExchangeRows rows{.send = {16, 16}, .receive = {99, 20.5}, .hidden = 2};
  CHECK(collective_bytes(describe(rows), Dtype::F32, 4) == 164);
  CHECK(collective_bytes(describe(ExchangeCounts{.local_experts = 3}), Dtype::F64, 4) == 48);
  CHECK(collective_kind(describe(ExchangeRows{.algorithm = ExchangeAlgorithm::Coordinated})) ==
        "exchange_rows coordinated");
  const ExchangeRows gathered{.algorithm = ExchangeAlgorithm::AllGather,
                              .send = {16, 16.5},
                              .receive = {99, 20.5},
                              .hidden = 2};
  CHECK(collective_kind(describe(gathered)) == "exchange_rows all_gather");
  CHECK(collective_bytes(describe(gathered), Dtype::F32, 4) == 4 * 16.5 * 2 * 4);
  CHECK(collective_kind(describe(AllReduce{1})) == "all_reduce");
}
