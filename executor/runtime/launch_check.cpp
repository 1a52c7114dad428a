#include "executor/runtime/launch_check.h"

#include <string>
#include <vector>

#include "core/base/fail.h"

namespace imhotep::executor {
namespace {

// At rank 0: which ranks hold another plan than it does; empty: none.
std::string differing(const std::vector<std::string>& hashes) {
  constexpr int kShown = 4;
  std::string text;
  int others = 0;
  for (std::size_t r = 1; r < hashes.size(); ++r) {
    if (hashes[r] == hashes[0]) continue;
    if (++others <= kShown) text += fmt::format(", rank {} has {}", r, hashes[r]);
  }
  if (others == 0) return {};
  if (others > kShown) text += fmt::format(", and {} more ranks differ", others - kShown);
  return fmt::format("the ranks were started with different plans: rank 0 has {}{}", hashes[0],
                     text);
}

}  // namespace

void check_launch(const Plan& plan, const Bootstrap& bootstrap) {
  std::string problem;
  if (const auto hashes = bootstrap.gather(plan_hash(plan)); !hashes.empty()) {
    problem = differing(hashes);
  }
  bootstrap.broadcast(problem);
  if (!problem.empty()) fail_input("{}", problem);
  if (plan.world == bootstrap.world()) return;
  fail_input("the plan is for {} rank{}, {} were started; try: mpirun -n {} imhotep ...",
             plan.world, plan.world == 1 ? "" : "s", bootstrap.world(), plan.world);
}

}  // namespace imhotep::executor
