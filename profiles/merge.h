#pragma once
// Puts what was measured later into a profile that exists.

#include <vector>

#include "profiles/profile.h"

namespace imhotep::profiles {

// Tables of the same family, variant, dtype and ranks become one, collectives of the same kind and
// group likewise; where both have a key the later point stays. Points end sorted by key.
void merge_tables(std::vector<Table>& into, const std::vector<Table>& later);
void merge_collectives(std::vector<CollectiveTable>& into,
                       const std::vector<CollectiveTable>& later);

}  // namespace imhotep::profiles
