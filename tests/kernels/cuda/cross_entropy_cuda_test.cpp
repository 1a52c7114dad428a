#include "kernels/cross_entropy.h"

#include "kernels/distill.h"
#include "tests/kernels/cuda/dense_support.h"

namespace imhotep::kernels::test {
namespace {

struct Case {
  std::int64_t rows, cols, parts, valid;
};
constexpr Case kCases[] = {{1, 1, 1, 1},        {7, 33, 1, 33},       {40, 100, 1, 97},
                           {16, 4096, 2, 8000}, {3, 50304, 1, 50257}, {5, 8, 4, 9}};

struct Loss {
  std::vector<float> stats, logprob;
  std::vector<std::vector<float>> gradient;  // of each part
  double sum = 0.25;
};

std::vector<std::int32_t> targets_of(const Case& s) {
  std::vector<std::int32_t> targets;
  for (std::int64_t row = 0; row < s.rows; ++row) {
    const std::uint64_t drawn = hash(9, static_cast<std::uint64_t>(row));
    const auto word = drawn % static_cast<std::uint64_t>(s.valid);
    targets.push_back(row % 5 == 3 ? -1 : static_cast<std::int32_t>(word));
  }
  return targets;
}

Loss on_cpu(const Case& s, std::vector<std::vector<float>> logits, bool gradient) {
  const auto targets = targets_of(s);
  Loss loss{.stats = std::vector<float>(static_cast<std::size_t>(3 * s.parts * s.rows)),
            .logprob = std::vector<float>(targets.size())};
  for (std::int64_t p = 0; p < s.parts; ++p) {
    softmax_stats(kCpu, {s.rows, s.cols, p * s.cols, s.valid},
                  {logits[static_cast<std::size_t>(p)].data(), targets.data(),
                   loss.stats.data() + 3 * p * s.rows});
  }
  for (std::int64_t p = 0; p < s.parts; ++p) {
    double sum = 0.25;
    cross_entropy(kCpu, {s.rows, s.cols, s.parts, p * s.cols, s.valid, gradient},
                  {loss.stats.data(), targets.data(), logits[static_cast<std::size_t>(p)].data(),
                   loss.logprob.data(), &sum, 0.125});
    loss.sum = sum;
  }
  loss.gradient = std::move(logits);
  return loss;
}

void check_case(const DeviceQueue& queue, const Case& s, bool gradient) {
  CAPTURE(s.cols);
  CAPTURE(s.parts);
  CAPTURE(gradient);
  const Dtype dtype = queue.dtype();
  std::vector<std::vector<float>> logits;
  for (std::int64_t p = 0; p < s.parts; ++p) {
    logits.push_back(random_values(s.rows * s.cols, static_cast<std::uint64_t>(p), dtype, 4));
  }
  const Loss expected = on_cpu(s, logits, gradient);
  const auto targets = queue.upload_raw(targets_of(s));
  const auto stats = queue.poisoned(3 * s.parts * s.rows, Dtype::F32);
  std::vector<DeviceMemory> held;
  for (std::int64_t p = 0; p < s.parts; ++p) {
    held.push_back(queue.upload(logits[static_cast<std::size_t>(p)]));
    softmax_stats(
        queue, {s.rows, s.cols, p * s.cols, s.valid},
        {held.back().data(), table(targets), static_cast<float*>(stats.data()) + 3 * p * s.rows});
  }
  const auto of_stats = queue.download(stats, Dtype::F32);
  for (std::size_t i = 0; i < of_stats.size(); ++i) {
    if (std::isfinite(expected.stats[i])) {
      CHECK(of_stats[i] == doctest::Approx(expected.stats[i]).epsilon(2e-5));
    } else {
      CHECK(of_stats[i] == expected.stats[i]);
    }
  }
  for (std::int64_t p = 0; p < s.parts; ++p) {
    const auto logprob = queue.poisoned(s.rows, Dtype::F32),
               sum = queue.upload_raw(std::vector<double>{0.25});
    const auto& part = held[static_cast<std::size_t>(p)];
    cross_entropy(queue, {s.rows, s.cols, s.parts, p * s.cols, s.valid, gradient},
                  {stats.data(), table(targets), part.data(), logprob.data(),
                   static_cast<double*>(sum.data()), 0.125});
    check_close(queue.download(logprob, Dtype::F32), expected.logprob,
                chained_tolerance(Dtype::F32));
    CHECK(queue.download_raw<double>(sum)[0] == doctest::Approx(expected.sum).epsilon(1e-5));
    check_close(queue.download(part), expected.gradient[static_cast<std::size_t>(p)],
                chained_tolerance(dtype));
  }
}

TEST_CASE("the loss and its gradient on a GPU agree with the CPU") {
  on_each_type([](const DeviceQueue& queue) {
    for (const Case& s : kCases) {
      check_case(queue, s, true);
      check_case(queue, s, false);
    }
    softmax_stats(queue, {0, 8, 0, 8}, {});
    cross_entropy(queue, {0, 8, 1, 0, 8, true}, {});
  });
}

TEST_CASE("the loss of many rows repeats its bits") {
  on_each_type([](const DeviceQueue& queue) {
    constexpr std::int64_t kRows = 3000, kCols = 40;
    const std::vector<std::int32_t> words(kRows, 7);
    const auto logits = queue.upload(random_values(kRows * kCols, 1, queue.dtype(), 3));
    const auto targets = queue.upload_raw(words);
    double first = 0;
    for (int run = 0; run < 3; ++run) {
      const auto stats = queue.poisoned(3 * kRows, Dtype::F32),
                 logprob = queue.poisoned(kRows, Dtype::F32),
                 sum = queue.upload_raw(std::vector<double>{0});
      softmax_stats(queue, {kRows, kCols, 0, kCols}, {logits.data(), table(targets), stats.data()});
      cross_entropy(queue, {kRows, kCols, 1, 0, kCols, false},
                    {stats.data(), table(targets), nullptr, logprob.data(),
                     static_cast<double*>(sum.data()), 1});
      const double loss = queue.download_raw<double>(sum)[0];
      double total = 0;
      for (const float x : queue.download(logprob, Dtype::F32)) total -= static_cast<double>(x);
      CHECK(loss == doctest::Approx(total).epsilon(1e-12));
      if (run == 0) first = loss;
      CHECK(loss == first);
    }
  });
}

TEST_CASE("a target beyond the vocabulary is a fault") {
  const DeviceQueue queue(Dtype::F32);
  const auto logits = queue.upload(random_values(20, 1, Dtype::F32));
  const auto targets = queue.upload_raw(std::vector<std::int32_t>{3, 9});
  const auto stats = queue.poisoned(6, Dtype::F32);
  softmax_stats(queue, {2, 10, 0, 9}, {logits.data(), table(targets), stats.data()});
  const FaultRecord record = queue.fault();
  CHECK(record.fault == Fault::TargetOutOfRange);
  CHECK(record.values[0] == 9);
  CHECK(record.values[1] == 9);
}

void check_distill(const DeviceQueue& queue, std::int64_t rows, std::int64_t cols,
                   std::int64_t valid, bool accumulate) {
  CAPTURE(cols);
  CAPTURE(accumulate);
  const Dtype dtype = queue.dtype();
  const auto student = random_values(rows * cols, 1, dtype, 2),
             teacher = random_values(rows * cols, 2, dtype, 2),
             before = random_values(rows * cols, 3, dtype, 0.1F);
  const Distill shape{rows, cols, 2.0F, 0.5F};
  auto expected = before;
  double loss = 0.5;
  const double scale = 1.0 / static_cast<double>(rows);
  distill(kCpu, shape,
          {student.data(), teacher.data(), expected.data(), &loss, scale, valid, accumulate});
  const auto s = queue.upload(student), t = queue.upload(teacher), d = queue.upload(before);
  const auto sum = queue.upload_raw(std::vector<double>{0.5, 0.5});
  auto* sums = static_cast<double*>(sum.data());
  distill(queue, shape, {s.data(), t.data(), d.data(), sums, scale, valid, accumulate});
  distill(queue, shape, {s.data(), t.data(), nullptr, sums + 1, scale, valid, accumulate});
  const auto losses = queue.download_raw<double>(sum);
  CHECK(losses[0] == doctest::Approx(loss).epsilon(1e-5));
  CHECK(losses[1] == losses[0]);
  check_close(queue.download(d), expected, chained_tolerance(dtype));
}

TEST_CASE("distillation on a GPU agrees with the CPU") {
  on_each_type([](const DeviceQueue& queue) {
    for (const bool accumulate : {true, false}) {
      check_distill(queue, 1, 1, 1, accumulate);
      check_distill(queue, 9, 100, 97, accumulate);
      check_distill(queue, 20, 4096, 4000, accumulate);
      check_distill(queue, 3, 33, 0, accumulate);
    }
    distill(queue, {0, 8, 1.0F, 1.0F}, {});
  });
}

}  // namespace
}  // namespace imhotep::kernels::test
