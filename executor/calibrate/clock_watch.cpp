#include "executor/calibrate/clock_watch.h"

#include <algorithm>

namespace imhotep::executor {

bool ClockWatch::slow() {
  const double rate = rate_();
  best_ = std::max(best_, rate);
  last_share_ = best_ > 0 ? rate / best_ : 1;
  lowest_share_ = std::min(lowest_share_, last_share_);
  return last_share_ < kSlowBelow;
}

}  // namespace imhotep::executor
