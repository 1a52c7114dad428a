#pragma once
// Tests that run under mpirun: every rank runs every case, in one order.

#include "executor/comm/bootstrap.h"

[[nodiscard]] const imhotep::executor::Bootstrap& test_bootstrap();
