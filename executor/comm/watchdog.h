#pragma once
// Notices that a rank has died or was stopped, so that the others do not wait for it for ever.
//
// The ranks of a machine share a table: who each of them is, where in its program it is, and a beat
// that a thread of its own counts. Each of these threads watches all others:
//   died      the process has gone and had not said goodbye;
//   stopped   its beat stands still although time passes. A rank that computes for long beats on,
//             and so does one that gets little of a busy processor: a thread that sleeps most of
//             the time is soon given its turn. Where the system says that the process is not
//             stopped but merely slow, it is given ten times as long.
// Whoever notices first says so once for the machine, with rank, layer and operation, and ends all.
// Ranks of one machine alone are watched: the launcher notices when a whole machine goes.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace imhotep::executor {

// Where a rank is. Written by its main thread, read by the watchers of all.
struct Whereabouts {
  int layer = -1;         // -1: none
  bool waits = false;     // in a communication
  std::string operation;  // empty: between steps
};
// "layer 3, dispatch", "balance_sum", "between steps"
[[nodiscard]] std::string place_text(const Whereabouts& where);

// One rank's row of the table, in memory that the ranks of a machine share. All zero: not there
// yet.
struct WatchRow {
  static constexpr int kLongestName = 47;
  std::atomic<std::uint64_t> beats;
  std::atomic<std::uint64_t> process_namespace;
  std::atomic<std::int32_t> process;
  std::atomic<std::int32_t> leaving;   // ends as it should, or was told to end
  std::atomic<std::uint32_t> version;  // odd while the place is written
  std::int32_t layer, waits;
  char operation[kLongestName + 1];

  void put(int layer, bool waits, std::string_view operation);
  [[nodiscard]] Whereabouts where() const;
};

class Watchdog {
 public:
  // Called once, from the watcher's thread: another rank has gone. `died`: else it was stopped.
  using Alarm = std::function<void(bool died, const std::string& message)>;

  // rows: [count], this rank's is rows[own]; ranks: [count], their numbers in the world. Both
  // outlive the watchdog. patience_s: without a beat; 0: nobody is watched. Requires: SIGTERM is
  // blocked in every thread of the process.
  Watchdog(WatchRow* rows, const int* ranks, int count, int own, double patience_s, Alarm alarm);
  // Says goodbye, so that nobody misses this rank.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  class Thread;
  std::unique_ptr<Thread> thread_;
};

// From IMHOTEP_STALL_SECONDS; 6 where it is not set. Throws: Input.
[[nodiscard]] double watch_patience_s();

}  // namespace imhotep::executor
