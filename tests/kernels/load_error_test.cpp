#include "kernels/load_error.h"

#include <dlfcn.h>
#include <doctest/doctest.h>

namespace imhotep::kernels {

TEST_CASE("a library of another version is named beside the one that is needed") {
  const std::string text =
      explain_load_error("libm.so.7: cannot open shared object file: No such file or directory");
  CAPTURE(text);
  CHECK(text.find("libm.so.7 is needed") != std::string::npos);
  CHECK(text.find("libm.so.6 is installed") != std::string::npos);
}

TEST_CASE("a library that is not there at all is said to be missing") {
  REQUIRE(dlopen("libimhotep_nowhere.so.3", RTLD_LAZY) == nullptr);
  const std::string text = explain_load_error(dlerror());
  CAPTURE(text);
  CHECK(text.find("libimhotep_nowhere.so.3 is needed, no version") != std::string::npos);
  CHECK(text.find("LD_LIBRARY_PATH") != std::string::npos);
}

TEST_CASE("other complaints of the loader stay as they are") {
  for (const char* text : {"/tmp/x.so: file too short", "undefined symbol: foo",
                           "x.so: cannot open shared object file: No such file or directory"}) {
    CHECK(explain_load_error(text) == text);
  }
}

}  // namespace imhotep::kernels
