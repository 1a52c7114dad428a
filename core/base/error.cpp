#include "core/base/error.h"

namespace imhotep {

void raise(ErrorKind kind, const std::string& message) { throw Error(kind, message); }

}  // namespace imhotep
