#include "profiles/merge.h"

#include <algorithm>

namespace imhotep::profiles {
namespace {

bool same(const Table& a, const Table& b) {
  return a.family == b.family && a.variant == b.variant && a.dtype == b.dtype &&
         a.ranks == b.ranks && a.keys == b.keys;
}
bool same(const CollectiveTable& a, const CollectiveTable& b) {
  return a.kind == b.kind && a.group_size == b.group_size && a.nodes == b.nodes;
}

const std::vector<double>& key_of(const Point& point) { return point.key; }
double key_of(const CollectivePoint& point) { return point.bytes; }

template <class AnyPoint>
void merge_points(std::vector<AnyPoint>& into, const std::vector<AnyPoint>& later) {
  for (const AnyPoint& point : later) {
    const auto known = std::find_if(into.begin(), into.end(), [&](const AnyPoint& other) {
      return key_of(other) == key_of(point);
    });
    if (known == into.end()) {
      into.push_back(point);
    } else {
      *known = point;
    }
  }
  std::stable_sort(into.begin(), into.end(),
                   [](const AnyPoint& a, const AnyPoint& b) { return key_of(a) < key_of(b); });
}

template <class AnyTable>
void merge(std::vector<AnyTable>& into, const std::vector<AnyTable>& later) {
  for (const AnyTable& table : later) {
    const auto known = std::find_if(into.begin(), into.end(),
                                    [&](const AnyTable& other) { return same(other, table); });
    if (known == into.end()) {
      into.push_back(table);
    } else {
      merge_points(known->points, table.points);
    }
  }
}

}  // namespace

void merge_tables(std::vector<Table>& into, const std::vector<Table>& later) { merge(into, later); }

void merge_collectives(std::vector<CollectiveTable>& into,
                       const std::vector<CollectiveTable>& later) {
  merge(into, later);
}

}  // namespace imhotep::profiles
