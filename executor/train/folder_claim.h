#pragma once
// One run at a time writes into a folder.

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>

#include "core/base/fail.h"

namespace imhotep::executor {

// Holds `folder`, which it makes where there is none, until it is destroyed or the process ends,
// however it ends: nothing is left to clear away.
class FolderClaim {
 public:
  // Throws: Error(Input) when another process holds the folder; Error(Failed) when it cannot be
  // made. Where the file system has no locks, the folder is taken to be free.
  explicit FolderClaim(const std::string& folder) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) fail("{}: cannot create the folder: {}", folder, error.message());
    descriptor_ = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor_ < 0 || ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return;
    const bool taken = errno == EWOULDBLOCK;
    ::close(descriptor_);
    descriptor_ = -1;
    if (taken)
      fail_input("{}: another run is writing here; wait for it, or give another --out", folder);
  }
  ~FolderClaim() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  FolderClaim(const FolderClaim&) = delete;
  FolderClaim& operator=(const FolderClaim&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace imhotep::executor
