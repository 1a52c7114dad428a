#include "executor/checkpoint/safetensors.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <thread>

#include "core/base/error.h"
#include "core/base/json_document.h"
#include "core/base/random.h"
#include "executor/checkpoint/weight_files.h"
#include "tests/executor/scratch_folder.h"

namespace imhotep::executor {
namespace {

std::string file_bytes(const std::string& json, std::size_t data_bytes) {
  const std::uint64_t size = json.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + json +
         std::string(data_bytes, '\0');
}

std::string complaint_about(const std::string& json, std::int64_t data_bytes) {
  return complaint([&] { (void)parse_safetensors_header(json, data_bytes, "x.safetensors"); });
}

std::vector<float> counting(std::int64_t count, float first) {
  std::vector<float> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), first);
  return values;
}

// a [2, 3] and b [4], F32, with the values 0 to 9.
std::string write_small(const std::string& file, float first = 0) {
  SafetensorsWriter writer(file, {{.name = "a", .shape = {2, 3}}, {.name = "b", .shape = {4}}},
                           {{"format", "test"}});
  writer.create();
  writer.write("a", {.first = 0, .count = 6}, counting(6, first).data());
  writer.write("b", {.first = 0, .count = 4}, counting(4, first + 6).data());
  writer.close();
  return file;
}

}  // namespace

TEST_CASE("a file written is the file read, and its header is what other readers expect") {
  const ScratchFolder folder;
  const SafetensorsFile file(write_small(folder.path("x.safetensors")));
  REQUIRE(file.header().tensors.size() == 2);
  CHECK(file.header().metadata.at("format") == "test");
  REQUIRE(file.find("a") != nullptr);
  CHECK(file.find("c") == nullptr);
  CHECK(file.find("a")->shape == std::vector<std::int64_t>{2, 3});
  std::vector<float> part(4);
  file.read(*file.find("a"), {.first = 2, .count = 4}, part.data(), Dtype::F32);
  CHECK(part == std::vector<float>{2, 3, 4, 5});
  CHECK(holds(complaint([&] {
                file.read(*file.find("a"), {.first = 3, .count = 4}, part.data(), Dtype::F32);
              }),
              "elements 3 to 7 asked for, it has 6"));

  const std::string bytes = read_text_file(file.file());
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), 8);
  CHECK(bytes.size() == 8 + header_bytes + 40);
  CHECK((8 + header_bytes) % 64 == 0);
  CHECK(holds(bytes, R"("a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]})"));
}

TEST_CASE("scalars, empty tensors and empty files are valid") {
  const ScratchFolder folder;
  folder.write("a.safetensors",
               file_bytes(R"({"s":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
                          R"("e":{"dtype":"F32","shape":[0,5],"data_offsets":[8,8]}}   )",
                          8));
  const SafetensorsFile file(folder.path("a.safetensors"));
  CHECK(file.find("s")->elements() == 1);
  CHECK(file.find("e")->elements() == 0);
  folder.write("b.safetensors", file_bytes("{}", 0));
  CHECK(SafetensorsFile(folder.path("b.safetensors")).header().tensors.empty());
}

TEST_CASE("headers that lie are refused with tensor and expectation") {
  const auto one = [](const std::string& fields) { return R"({"t":{)" + fields + "}}"; };
  const std::string good = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
  CHECK(complaint_about(one(good), 8).empty());
  CHECK(holds(complaint_about(one(good), 7),
              R"(truncated: the tensors up to "t" take 8 bytes after the header, the file has 7)"));
  CHECK(holds(complaint_about(one(good), 9), "too long"));
  CHECK(holds(complaint_about(R"({"t":{)" + good + R"(},"t":{)" + good + "}}", 8),
              "duplicate tensor \"t\""));
  CHECK(holds(complaint_about(R"({"t":{)" + good + R"(},"u":{)" + good + "}}", 8),
              "expected data offset 8, got 0 (tensors overlap)"));
  CHECK(holds(complaint_about(one(R"("dtype":"F32","shape":[2],"data_offsets":[4,12])"), 12),
              "expected data offset 0, got 4 (a hole)"));
  CHECK(holds(complaint_about(one(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), 8),
              "expected 12 bytes for F32 [3], got 8 (offsets 0 to 8)"));
  CHECK(holds(complaint_about(one(R"("dtype":"F33","shape":[2],"data_offsets":[0,8])"), 8),
              "expected a dtype such as F32 or BF16, got \"F33\""));
  CHECK(holds(complaint_about(
                  one(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8])"), 8),
              "expected too many bytes"));
  CHECK(holds(complaint_about(one(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), 8),
              "\"t\": shape: expected an array of whole numbers, got -2"));
  CHECK(holds(complaint_about(one(R"("dtype":"F32","shape":[2.5],"data_offsets":[0,8])"), 8),
              "got 2.5"));
  CHECK(holds(complaint_about(one(R"("dtype":"F32","shape":2,"data_offsets":[0,8])"), 8), "got 2"));
  CHECK(holds(complaint_about(one(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), 8),
              "two rising data_offsets"));
  CHECK(holds(complaint_about(one(R"("dtype":"F32","shape":[2])"), 8), "two rising data_offsets"));
  CHECK(holds(complaint_about(one(good + R"(,"more":1)"), 8),
              "expected dtype, shape and data_offsets, got \"more\""));
  CHECK(holds(complaint_about(one(good + R"(,"dtype":"F32")"), 8), "duplicate key \"dtype\""));
  CHECK(holds(complaint_about(R"({"__metadata__":{"a":1}})", 0), "a: expected a string, got 1"));
  CHECK(holds(complaint_about(R"({"__metadata__":{"a":{}}})", 0), "expected a string, got"));
  CHECK(holds(complaint_about(R"({"t":7})", 0), "\"t\": expected an object, got 7"));
  CHECK(holds(complaint_about("[]", 0), "begins with {"));
  CHECK(holds(complaint_about("{", 0), "not valid JSON"));
  CHECK(holds(complaint_about(one(good) + "x", 8), "not valid JSON"));
  const std::string deep(1'000'000, '[');
  CHECK(holds(complaint_about(R"({"t":{"shape":)" + deep, 0), "got an array"));
  std::string nested;
  for (int i = 0; i < 100'000; ++i) nested += R"({"t":)";
  CHECK(holds(complaint_about(nested, 0), "expected dtype, shape and data_offsets, got \"t\""));
}

TEST_CASE("sizes that lie are refused before anything is allocated") {
  const ScratchFolder folder;
  const auto open = [&](const std::string& bytes) {
    folder.write("x.safetensors", bytes);
    return complaint([&] { const SafetensorsFile file(folder.path("x.safetensors")); });
  };
  CHECK(holds(open(""), "truncated: expected at least 8 bytes, got 0"));
  CHECK(holds(open(std::string(8, '\xFF')), "a header of at most 100000000 bytes"));
  CHECK(holds(open(file_bytes("{}", 0).substr(0, 9)), "truncated: expected a header of 2 bytes"));
  CHECK(holds(complaint([&] { const SafetensorsFile file(folder.path("no.safetensors")); }),
              "no.safetensors: cannot read: No such file"));
  CHECK(holds(complaint([&] { const SafetensorsFile file(folder.path()); }), "expected a file"));
}

TEST_CASE(
    "headers with random damage never crash the reader, and what is accepted tiles the data") {
  const std::string good =
      R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}})";
  int refused = 0;
  for (std::uint64_t seed = 0; seed < 5000; ++seed) {
    CAPTURE(seed);
    std::string json = good;
    for (std::uint64_t i = 0; i <= hash(seed, 1) % 3; ++i) {
      const auto draw = hash(seed, 2, i);
      const std::size_t at = draw % json.size();
      if (draw >> 60 < 4) {
        json.erase(at, 1 + (draw >> 32) % 20);
      } else {
        json[at] = (draw >> 59 & 1) == 0 ? static_cast<char>(draw >> 40)
                                         : good[(draw >> 32) % good.size()];
      }
    }
    try {
      std::int64_t at = 0;
      for (const TensorEntry& tensor : parse_safetensors_header(json, 32, "x").tensors) {
        CHECK(tensor.begin_bytes == at);
        at = tensor.end_bytes;
      }
      CHECK(at == 32);
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::Input);
      ++refused;
    }
  }
  CHECK(refused > 3000);
}

TEST_CASE("many writers fill one file, each its own ranges") {
  const ScratchFolder folder;
  const std::vector<TensorEntry> tensors = {{.name = "a", .shape = {1000}},
                                            {.name = "b", .shape = {10, 300}}};
  SafetensorsWriter creator(folder.path("x.safetensors"), tensors, {});
  creator.create();
  std::vector<std::thread> threads;
  for (int part = 0; part < 4; ++part) {
    threads.emplace_back([&, part] {
      SafetensorsWriter writer(folder.path("x.safetensors"), tensors, {});
      writer.open();
      for (int row = part; row < 10; row += 4) {
        writer.write("b", {.first = row * 300, .count = 300},
                     counting(300, static_cast<float>(row * 300)).data());
      }
      writer.write("a", {.first = part * 250, .count = 250},
                   counting(250, static_cast<float>(part * 250)).data());
      writer.close();
    });
  }
  for (auto& thread : threads) thread.join();
  const SafetensorsFile file(folder.path("x.safetensors"));
  for (const char* name : {"a", "b"}) {
    const TensorEntry& tensor = *file.find(name);
    std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
    file.read(tensor, {.first = 0, .count = tensor.elements()}, values.data(), Dtype::F32);
    CHECK(values == counting(tensor.elements(), 0));
  }
}

TEST_CASE("writers refuse unknown tensors, ranges outside, and folders that are not there") {
  const ScratchFolder folder;
  SafetensorsWriter writer(folder.path("x.safetensors"), {{.name = "a", .shape = {4}}}, {});
  writer.create();
  const float value = 1;
  CHECK(
      holds(complaint([&] { writer.write("b", {.first = 0, .count = 1}, &value); }), "no tensor"));
  CHECK(holds(complaint([&] { writer.write("a", {.first = 4, .count = 1}, &value); }),
              "elements 4 to 5 written, it has 4"));
  SafetensorsWriter lost(folder.path("no/x.safetensors"), {{.name = "a", .shape = {4}}}, {});
  CHECK(holds(complaint([&] { lost.create(); }), "no/x.safetensors: cannot create: No such file"));
}

TEST_CASE("values convert between fp32, fp64, bf16 and fp16 as IEEE 754 says") {
  const auto converted = [](ElementType from, auto source, Dtype to, auto target) {
    convert(&source, from, &target, to, 1);
    return target;
  };
  const auto half = [&](int bits) {
    return converted(ElementType::F16, static_cast<std::uint16_t>(bits), Dtype::F32, 0.0f);
  };
  CHECK(half(0x3C00) == 1.0f);
  CHECK(half(0xC500) == -5.0f);
  CHECK(half(0x7BFF) == 65504.0f);
  CHECK(half(0x0001) == 0x1p-24f);
  CHECK(half(0xFC00) == -std::numeric_limits<float>::infinity());
  CHECK(std::isnan(half(0x7E00)));
  CHECK(converted(ElementType::Bf16, std::uint16_t{0x3FC0}, Dtype::F64, 0.0) == 1.5);
  CHECK(converted(ElementType::F32, 0.1f, Dtype::F64, 0.0) == static_cast<double>(0.1f));
  CHECK(converted(ElementType::F64, 0.1, Dtype::F32, 0.0f) == 0.1f);
  const auto brain = [&](float value) {
    return converted(ElementType::F32, value, Dtype::Bf16, std::uint16_t{0});
  };
  CHECK(brain(1.0f) == 0x3F80);
  CHECK(brain(std::bit_cast<float>(0x3F808000u)) == 0x3F80);  // a tie goes to the even one
  CHECK(brain(std::bit_cast<float>(0x3F818000u)) == 0x3F82);
  CHECK(brain(std::bit_cast<float>(0x3F808001u)) == 0x3F81);
  CHECK(brain(std::bit_cast<float>(0x7F7FFFFFu)) == 0x7F80);  // beyond the largest: infinity
  CHECK((brain(std::bit_cast<float>(0x7F800001u)) & 0x7FFF) > 0x7F80);  // not-a-number stays one
  CHECK(convertible(ElementType::F16, Dtype::F32));
  CHECK_FALSE(convertible(ElementType::I64, Dtype::F32));
  CHECK_FALSE(convertible(ElementType::F32, Dtype::I32));
}

TEST_CASE("a checksum is the same however it is cut, and changes with value, place and name") {
  const std::vector<float> values = counting(1000, 1);
  const auto whole = checksum(7, 0, values.data(), 1000, 4);
  CHECK(checksum(7, 0, values.data(), 300, 4) + checksum(7, 300, values.data() + 300, 700, 4) ==
        whole);
  CHECK(checksum(8, 0, values.data(), 1000, 4) != whole);
  CHECK(checksum(7, 1, values.data(), 1000, 4) != whole);
  std::vector<float> swapped = values;
  std::swap(swapped[10], swapped[20]);
  CHECK(checksum(7, 0, swapped.data(), 1000, 4) != whole);
}

TEST_CASE("files listed by an index read as one, and an index that lies is refused") {
  const ScratchFolder folder;
  write_small(folder.path("model-1.safetensors"));
  SafetensorsWriter second(folder.path("model-2.safetensors"), {{.name = "c", .shape = {5}}}, {});
  second.create();
  second.write("c", {.first = 0, .count = 5}, counting(5, 10).data());
  second.close();
  const auto index = [&](const std::string& map, const std::string& total) {
    folder.write("model.safetensors.index.json",
                 R"({"metadata":{"total_size":)" + total + R"(},"weight_map":{)" + map + "}}");
    return complaint([&] { const WeightFiles files(folder.path(), "model"); });
  };
  const std::string map =
      R"("a":"model-1.safetensors","b":"model-1.safetensors","c":"model-2.safetensors")";
  CHECK(index(map, "60").empty());
  const WeightFiles files(folder.path(), "model");
  const auto place = files.find("c");
  REQUIRE(place.tensor != nullptr);
  std::vector<float> values(5);
  place.file->read(*place.tensor, {.first = 0, .count = 5}, values.data(), Dtype::F32);
  CHECK(values == counting(5, 10));
  CHECK(files.find("d").tensor == nullptr);

  std::vector<TensorEntry> expected = {
      {.name = "a", .shape = {2, 3}}, {.name = "b", .shape = {4}}, {.name = "c", .shape = {5}}};
  const auto expect = [&] { return complaint([&] { files.expect(expected, Dtype::F32); }); };
  CHECK(expect().empty());
  expected[1].shape = {2, 2};
  CHECK(holds(expect(), "model-1.safetensors: tensor \"b\": expected shape [2, 2], got [4]"));
  expected[1] = {.name = "d", .shape = {1}};
  CHECK(holds(expect(), "tensor \"d\" is missing: expected shape [1]"));
  expected.erase(expected.begin() + 1);
  CHECK(holds(expect(), "unexpected tensor \"b\" [4]"));

  CHECK(holds(index(map, "61"), "$.metadata.total_size: the files hold 60 bytes, got 61"));
  CHECK(holds(index(map + R"(,"d":"model-2.safetensors")", "60"), "holds no such tensor"));
  CHECK(holds(index(map + R"(,"d":"../x")", "60"), "expected the name of a file beside the index"));
  CHECK(holds(index(R"("a":"model-3.safetensors")", "60"), "model-3.safetensors: cannot read"));
}

}  // namespace imhotep::executor
