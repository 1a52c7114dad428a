#include "cli/table.h"

#include <doctest/doctest.h>

#include "cli/progress.h"
#include "core/base/error.h"

using namespace imhotep;
using namespace imhotep::cli;

TEST_CASE("columns are as wide as their widest cell and lines have no blanks at their end") {
  Table table({{"name"}, {"n", Align::Right}, {"note"}});
  table.row({"a", "1", ""});
  table.row({"longer", "1000", "x"});
  CHECK(table.text(1) ==
        " name       n  note\n"
        " a          1\n"
        " longer  1000  x\n");
}

TEST_CASE("width counts characters, not bytes") {
  CHECK(display_width("\xc2\xb5s") == 2);
  CHECK(display_width("") == 0);
  Table table({{"u"}, {"v"}});
  table.row({"\xc2\xb5s", "1"});
  CHECK(table.text(0) == "u   v\n\xc2\xb5s  1\n");
}

TEST_CASE("a row that does not fit the columns is refused") {
  Table table({{"a"}, {"b"}});
  CHECK_THROWS_AS(table.row({"1"}), Error);
}

TEST_CASE("a progress line says how much is done, how fast, and how long it will take") {
  CHECK(progress_line("training", "steps", 50, 200, 10) ==
        "training  50/200  25%  5 steps/s  30.0 s left");
  CHECK(progress_line("training", "steps", 50, 0, 10) == "training  50  5 steps/s");
  CHECK(progress_line("loading", "bytes", 2'000'000'000, 8'000'000'000, 2) ==
        "loading  2.00 GB/8.00 GB  25%  1.00 GB/s  6.00 s left");
  CHECK(progress_line("training", "steps", 0, 200, 0) == "training  0/200  0%  0 steps/s");
}
