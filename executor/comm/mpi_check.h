#pragma once
// MPI return codes as errors that name the call. For .cpp files of this folder only.

#include <mpi.h>

#include <string>
#include <string_view>

#include "core/base/fail.h"

namespace imhotep::executor {

[[nodiscard]] inline std::string mpi_error_text(int code) {
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  return std::string(text, static_cast<std::size_t>(length));
}

inline void mpi_check(int code, std::string_view call) {
  if (code != MPI_SUCCESS) fail("{}: {}", call, mpi_error_text(code));
}

}  // namespace imhotep::executor
