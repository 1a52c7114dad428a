#pragma once
// A window that is shown and leaves no settings behind.

#include <doctest/doctest.h>

#include "gui/app/main_window.h"
#include "tests/gui/samples.h"

namespace imhotep::gui {

struct Shown {
  MainWindow window;
  Shown() {
    window.stay_private();
    window.show();
  }
  explicit Shown(const Question& asked) : Shown() {
    window.explorer().ask(asked, "ask");
    REQUIRE(settles(window.explorer()));
  }
};

}  // namespace imhotep::gui
