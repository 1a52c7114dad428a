#pragma once
// Checkpoints inside a run's folder: RUN/checkpoints/step_000100 and RUN/checkpoints/latest, which
// names the newest. A checkpoint appears under its name only when it is complete.

#include <cstdint>
#include <string>

namespace imhotep::executor {

// The folder of a checkpoint: `path` itself when it holds one, else the newest of the run `path`.
// Throws: Error(Input) when there is none.
[[nodiscard]] std::string find_checkpoint(const std::string& path);

// For one process. All throw Error(Failed) with path and cause.
struct CheckpointPlace {
  std::string run_folder;
  std::int64_t step = 0;

  [[nodiscard]] std::string name() const;       // "step_000100"
  [[nodiscard]] std::string folder() const;     // where it will be
  [[nodiscard]] std::string temporary() const;  // where it is written
};
void begin_checkpoint(const CheckpointPlace& place);    // an empty temporary folder
void publish_checkpoint(const CheckpointPlace& place);  // renames it, then updates "latest"
void discard_checkpoint(const CheckpointPlace& place) noexcept;  // removes the temporary folder
// Removes all but the `keep` newest, never the one at `place`. What cannot be removed stays.
void prune_checkpoints(const CheckpointPlace& place, int keep) noexcept;

}  // namespace imhotep::executor
