#pragma once
// The frame of a program whose ranks run every case in one order. Included by the file that holds
// main, before anything that includes doctest.

#define DOCTEST_CONFIG_IMPLEMENT
#define DOCTEST_CONFIG_NO_POSIX_SIGNALS  // mpirun ends ranks by SIGTERM
#include <doctest/doctest.h>

#include <cstdio>
#include <string>

#include "tests/executor/mpi_main.h"

namespace {

const imhotep::executor::Bootstrap* bootstrap = nullptr;

// A case that throws at one rank would leave the others waiting, so it ends them all.
struct AbortOnException : doctest::IReporter {
  explicit AbortOnException(const doctest::ContextOptions&) {}
  void test_case_exception(const doctest::TestCaseException& e) override {
    test_bootstrap().abort(1, std::string(e.error_string.c_str()) + " (in a test case)");
  }
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_start(const doctest::TestCaseData&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};
REGISTER_LISTENER("abort_on_exception", 1, AbortOnException);

// 0 if every case passed at every rank; rank 0 says how the ranks met.
int run_cases(const imhotep::executor::Bootstrap& ranks, int argc, char** argv) {
  bootstrap = &ranks;
  doctest::Context context(argc, argv);
  if (ranks.rank() != 0) context.setOption("minimal", true);
  const int failures = context.run();
  const bool passed = ranks.all_true(failures == 0);
  if (ranks.rank() == 0) std::puts(ranks.describe().c_str());
  return passed ? 0 : 1;
}

}  // namespace

const imhotep::executor::Bootstrap& test_bootstrap() { return *bootstrap; }
