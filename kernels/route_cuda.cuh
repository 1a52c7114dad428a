#pragma once
// The steps of routing, as the sources of this family call each other.

#include <algorithm>
#include <cstddef>

#include "kernels/route.h"
#include "kernels/routing_launch.cuh"

namespace imhotep::kernels::cuda {

// What the weights of k >= 2 are divided by is at least this: epsilon of fp32, as on the CPU.
inline constexpr float kRouteEpsilon = 1.1920929e-07F;

// After the choices: drops what exceeds the capacity, assigns slots, and renews the weights of
// tokens that lost a route. Does nothing without a limit and without a slot table.
void place_routes(const Queue& queue, const Route& shape, const RouteOperands& operands);

}  // namespace imhotep::kernels::cuda
