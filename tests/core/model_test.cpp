#include "core/spec/model.h"

#include <doctest/doctest.h>

#include <random>

#include "core/spec/parameters.h"
#include "tests/core/failure.h"

namespace imhotep {
namespace {

using test::contains;
using test::failure;

ModelSpec small_model(const std::string& experts) {
  ModelSpec model;
  model.name = "small";
  model.layers = 6;
  model.hidden = 32;
  model.heads = 4;
  model.vocab = 200;
  model.context = 64;
  model.experts = ExpertList::parse(experts);
  return model;
}

TEST_CASE("expert lists are read and written as people write them") {
  CHECK(ExpertList::parse("32x10,64x2").slots ==
        std::vector<int>{32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 64, 64});
  CHECK(ExpertList::parse("128").slots == std::vector<int>{128});
  CHECK(ExpertList::parse("").slots.empty());
  CHECK(ExpertList::parse("4,4,8").text() == "4x2,8x1");
  CHECK(ExpertList::parse("0x6,32x6").text() == "0x6,32x6");
  CHECK(ExpertList{}.text().empty());
}

TEST_CASE("any expert list survives being written and read") {
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    INFO("seed ", seed);
    std::mt19937_64 generator(seed);
    ExpertList list;
    const auto slots = generator() % 12;
    for (std::uint64_t i = 0; i < slots; ++i) {
      list.slots.push_back(static_cast<int>(generator() % 4) * 32);
    }
    CHECK(ExpertList::parse(list.text()) == list);
  }
}

TEST_CASE("expert lists that are none are refused") {
  for (const char* text : {"32x", "x2", "32x0", "a", "32x10;64x2", "-1", "32x10,", ",32",
                           "32x10,,8", "3.5", "32x1001", "1234567", " 32", "32x2x2"}) {
    INFO(std::string(text));
    CHECK(contains(failure([&] { (void)ExpertList::parse(text); }), text));
  }
}

TEST_CASE("every second block is an MoE layer, counted from one") {
  const ModelSpec model = small_model("2x1,4x1,8x1");
  const std::vector<int> expected = {0, 2, 0, 4, 0, 8};
  for (int layer = 0; layer < model.layers; ++layer) {
    CHECK(model.experts_at(layer) == expected[layer]);
  }
  CHECK(model.moe_layers() == 3);
  CHECK(small_model("").moe_layers() == 0);
  CHECK(small_model("16").moe_layers() == 3);
  CHECK(small_model("16x1,0x1,16x1").moe_layers() == 2);
}

TEST_CASE("derived sizes follow from the fields") {
  const ModelSpec model = small_model("8");
  CHECK(model.ffn() == 128);
  CHECK(model.head_dim() == 8);
  CHECK(model.padded_vocab() == 256);
}

TEST_CASE("parameters are counted tensor by tensor") {
  ModelSpec model = small_model("2x1,4x1,8x1");
  const std::int64_t h = 32, mlp = 8 * h * h + 4 * h + h, experts = 2 + 4 + 8;
  const std::int64_t rest = (256 + 64) * h + 2 * h + 6 * (4 * h * h + 4 * h + 4 * h);
  CHECK(parameters(model) == rest + 3 * mlp + experts * (h + mlp));
  CHECK(active_parameters(model) == rest + 3 * mlp + experts * h + 3 * mlp);
  CHECK(core_parameters(model) == 12 * 6 * h * h + (1 + 3 + 7) * 8 * h * h);
  model.residual = true;
  CHECK(parameters(model) == rest + 6 * mlp + experts * (h + mlp) + 3 * (2 * h + 2));
  CHECK(core_parameters(model) == 12 * 6 * h * h + experts * 8 * h * h);
}

TEST_CASE("forward work is about twice the active matrix parameters") {
  ModelSpec model = small_model("8");
  model.top_k = 2;
  const double h = 32, gates = 3 * 8 * h;
  const double matrices = 256 * h + 6 * 4 * h * h + 3 * 8 * h * h + 3 * 2 * 8 * h * h + gates;
  CHECK(forward_flops(model, 0) == doctest::Approx(2 * matrices));
  CHECK(forward_flops(model, 10) - forward_flops(model, 0) == doctest::Approx(6 * 4 * 10 * h));
}

TEST_CASE("fields that contradict each other are refused by name") {
  const auto refused = [](auto change) {
    ModelSpec model = small_model("8");
    change(model);
    return failure([&] { check(model); });
  };
  CHECK_NOTHROW(check(small_model("8")));
  CHECK(contains(refused([](ModelSpec& m) { m.heads = 5; }), "heads (5) must divide hidden (32)"));
  CHECK(contains(refused([](ModelSpec& m) {
                   m.experts.slots = {8, 8};
                 }),
                 "experts lists 2 slots, but 6 layers with an MoE slot every 2 have 3"));
  CHECK(contains(refused([](ModelSpec& m) { m.top_k = 9; }),
                 "top_k (9) exceeds the experts of a layer (8)"));
  CHECK(contains(refused([](ModelSpec& m) {
                   m.top_k = 2;
                   m.router.drop = DropPolicy::Random;
                 }),
                 "random token selection is defined for top_k 1"));
  CHECK(contains(refused([](ModelSpec& m) { m.router.drop = DropPolicy::Probability; }),
                 "top_k 3 and more"));
}

}  // namespace
}  // namespace imhotep
