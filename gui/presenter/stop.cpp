#include "gui/presenter/stop.h"

#include <sys/resource.h>
#include <unistd.h>

namespace imhotep::gui {

void yield_to_window() {
  constexpr int kNice = 5;
  static thread_local bool yields = false;
  if (yields) return;
  yields = true;
  // Of this thread alone, on Linux; threads that it starts inherit it. Refused: no harm done.
  (void)setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNice);
}

}  // namespace imhotep::gui
