#pragma once
// Work beside the window: one job of a kind at a time, the newest wins.

#include <QCoreApplication>
#include <QObject>
#include <QThreadPool>
#include <atomic>
#include <functional>
#include <memory>
#include <utility>

namespace imhotep::gui {

// Shared by a job and whoever may want to end it.
class Stop {
 public:
  void request() const { *flag_ = true; }
  [[nodiscard]] bool requested() const { return *flag_; }

 private:
  std::shared_ptr<std::atomic<bool>> flag_ = std::make_shared<std::atomic<bool>>(false);
};

// Lets the window's thread go first where all cores are busy: otherwise a frame waits until
// planning threads have used up their turns.
void yield_to_window();

// `work` runs on a thread of the pool, `done` in the thread of `owner` with what it returned. A new
// job stops the one before; results of stopped jobs are dropped.
class Newest {
 public:
  explicit Newest(QObject* owner) : owner_(owner) {}
  ~Newest() { cancel(); }
  Newest(const Newest&) = delete;
  Newest& operator=(const Newest&) = delete;

  template <class Work, class Done>
  void start(Work work, Done done) {
    cancel();
    stop_ = Stop();
    running_ = std::make_shared<bool>(true);
    QThreadPool::globalInstance()->start([owner = owner_, stop = stop_, running = running_,
                                          work = std::move(work), done = std::move(done)] {
      if (stop.requested()) return;
      yield_to_window();
      auto result = std::make_shared<decltype(work(stop))>(work(stop));
      QMetaObject::invokeMethod(
          owner,
          [stop, running, done, result] {
            if (stop.requested()) return;
            *running = false;
            done(std::move(*result));
          },
          Qt::QueuedConnection);
    });
  }

  void cancel() {
    stop_.request();
    *running_ = false;
  }
  [[nodiscard]] bool is_running() const { return *running_; }

 private:
  QObject* owner_;
  Stop stop_;
  std::shared_ptr<bool> running_ = std::make_shared<bool>(false);  // touched by the owner's thread
};

}  // namespace imhotep::gui
