#pragma once
// Where one exchange overtakes another: a table for people, and the curves as an SVG picture.

#include <string>
#include <vector>

namespace imhotep::bench {

struct Crossover {
  double bytes = 0;  // to one peer
  double flat_us = 0, hierarchical_us = 0;
  double flat_priced_us = 0, hierarchical_priced_us = 0;
};

// Bytes at which the flat exchange first takes no longer, between two sizes by the logarithms of
// size and ratio; 0: at the first size already, a negative number: at none.
[[nodiscard]] double crossover_bytes(const std::vector<double>& bytes,
                                     const std::vector<double>& hierarchical_over_flat);

[[nodiscard]] std::string crossover_table(const std::vector<Crossover>& rows);
[[nodiscard]] std::string crossover_picture(const std::string& where,
                                            const std::vector<Crossover>& rows);

}  // namespace imhotep::bench
