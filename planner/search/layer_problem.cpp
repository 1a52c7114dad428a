#include "planner/search/layer_problem.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace imhotep::planner {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Label {
  double step_us = 0, prompt_us = 0;
  std::int64_t bytes = 0;
  std::int32_t parent = -1;  // label of the stage before, or bundle without the last item
  std::int32_t added = -1;   // bundle, or item
};

// Least of everything over the items of one kind that are still to come.
struct Least {
  double step_us = kInfinity, prompt_us = kInfinity, cost = kInfinity, priced = kInfinity;
  double bytes = kInfinity;
};

class Solver {
 public:
  Solver(const LayerProblem& problem, std::size_t most_labels)
      : p_(problem), most_(most_labels), kinds_(problem.layers.size()), usable_(p_.items.size()) {
    for (const int layers : p_.layers) {
      strides_.push_back(states_);
      states_ *= static_cast<std::size_t>(layers) + 1;
    }
  }

  LayerAnswers run() {
    std::iota(usable_.begin(), usable_.end(), 0);
    drop_by_bytes();
    if (out_.none_fits) return nothing();
    out_.bound = root_bound(0);
    if (out_.bound >= p_.cutoff) return nothing();
    drop_by_time();
    price_regions();
    drop_by_time();
    out_.bound = std::max(root_bound(0), bound_by_memory());
    if (out_.bound >= p_.cutoff) return nothing();
    stages();
    if (out_.complete) collect();
    return std::move(out_);
  }

 private:
  [[nodiscard]] double cost(double step_us, double prompt_us) const {
    return p_.step_weight * step_us + p_.prompt_weight * prompt_us;
  }

  LayerAnswers nothing() {
    if (out_.none_fits) out_.bound = kInfinity;
    out_.items_left_by_time.resize(kinds_, 0);
    return std::move(out_);
  }

  [[nodiscard]] std::vector<int> count_items() const {
    std::vector<int> count(kinds_, 0);
    for (const int i : usable_) ++count[p_.items[i].kind];
    return count;
  }

  // `share`: what a layer adds to the update of its region at least.
  [[nodiscard]] double share(const LayerItem& item) const {
    return item.region < 0 || share_us_.empty() ? 0 : share_us_[item.region][item.kind];
  }

  [[nodiscard]] Least least_of(std::size_t kind, int first_region, double price) const {
    Least least;
    for (const int i : usable_) {
      const LayerItem& item = p_.items[i];
      if (item.kind != static_cast<int>(kind) || item.region < first_region) continue;
      const double step_us = item.step_us + share(item);
      const double own = cost(step_us, item.prompt_us);
      const auto bytes = static_cast<double>(item.bytes);
      least.step_us = std::min(least.step_us, step_us);
      least.prompt_us = std::min(least.prompt_us, item.prompt_us);
      least.cost = std::min(least.cost, own);
      least.priced = std::min(least.priced, own + price * bytes);
      least.bytes = std::min(least.bytes, bytes);
    }
    return least;
  }

  void drop_by_bytes() {
    double all = 0;
    std::vector<double> least;
    for (std::size_t k = 0; k < kinds_; ++k) {
      least.push_back(least_of(k, -1, 0).bytes);
      all += p_.layers[k] * least.back();
    }
    const auto limit = static_cast<double>(p_.bytes_limit);
    std::erase_if(usable_, [&](int i) {
      const LayerItem& item = p_.items[i];
      return all - least[item.kind] + static_cast<double>(item.bytes) > limit;
    });
    out_.items_left_by_bytes = count_items();
    out_.none_fits = all > limit;
  }

  // Exact for every mixture of layers that a region can hold; the share of a layer is the least
  // that it can be, in proportion to what the layer alone costs there.
  void price_regions() {
    share_us_.assign(p_.regions, std::vector<double>(kinds_, 0.0));
    shared_us_.assign(p_.regions, {});
    for (int r = 0; r < p_.regions; ++r) {
      std::vector<bool> offered(kinds_, false);
      bool any = false;
      for (const int i : usable_) {
        if (p_.items[i].region == r) offered[p_.items[i].kind] = any = true;
      }
      if (any) price_region(r, offered);
    }
  }

  void price_region(int r, const std::vector<bool>& offered) {
    std::vector<double>& table = shared_us_[r];
    table.assign(states_, 0.0);
    std::vector<double> alone(kinds_, 0.0);
    std::vector<int> counts;
    for (std::size_t state = 1; state < states_; ++state) {
      counts = counts_of(state);
      bool possible = true;
      for (std::size_t k = 0; k < kinds_; ++k)
        possible = possible && (counts[k] == 0 || offered[k]);
      if (!possible) continue;
      table[state] = p_.shared_us(r, counts);
      for (std::size_t k = 0; k < kinds_; ++k) {
        if (state == strides_[k]) alone[k] = table[state];
      }
    }
    double least = kInfinity;
    for (std::size_t state = 1; state < states_; ++state) {
      if (table[state] <= 0) continue;
      counts = counts_of(state);
      double weight = 0;
      for (std::size_t k = 0; k < kinds_; ++k) weight += counts[k] * alone[k];
      if (weight > 0) least = std::min(least, table[state] / weight);
    }
    if (!std::isfinite(least)) return;
    for (std::size_t k = 0; k < kinds_; ++k) share_us_[r][k] = least * alone[k];
  }

  [[nodiscard]] double root_bound(double price) const {
    double total = cost(p_.step_us, p_.prompt_us) - price * static_cast<double>(p_.bytes_limit);
    for (std::size_t k = 0; k < kinds_; ++k) total += p_.layers[k] * least_of(k, -1, price).priced;
    return total;
  }

  void drop_by_time() {
    std::vector<double> least;
    double all = cost(p_.step_us, p_.prompt_us);
    for (std::size_t k = 0; k < kinds_; ++k) {
      least.push_back(least_of(k, -1, 0).cost);
      all += p_.layers[k] * least.back();
    }
    std::erase_if(usable_, [&](int i) {
      const LayerItem& item = p_.items[i];
      const double own = cost(item.step_us + share(item), item.prompt_us);
      return all - least[item.kind] + own >= p_.cutoff;
    });
    drop_dominated();
    out_.items_left_by_time = count_items();
    for (const int left : out_.items_left_by_time) {
      if (left == 0) out_.bound = p_.cutoff;
    }
  }

  // Within a region an item that is nowhere better than another of its kind is never needed.
  void drop_dominated() {
    if (p_.all) return;
    std::vector<int> kept;
    for (const int i : usable_) {
      const LayerItem& a = p_.items[i];
      const bool dominated = std::any_of(usable_.begin(), usable_.end(), [&](int j) {
        const LayerItem& b = p_.items[j];
        if (i == j || b.kind != a.kind || b.region != a.region) return false;
        const bool as_good =
            b.step_us <= a.step_us && b.prompt_us <= a.prompt_us && b.bytes <= a.bytes;
        const bool same =
            b.step_us == a.step_us && b.prompt_us == a.prompt_us && b.bytes == a.bytes;
        return as_good && (!same || j < i);
      });
      if (!dominated) kept.push_back(i);
    }
    usable_ = std::move(kept);
  }

  // The best price of a byte: where the cheapest items just fill the memory.
  double bound_by_memory() {
    double low = 0, high = 1e-18, best = root_bound(0);
    while (high < 1e12 && root_bound(high) > best) {
      best = root_bound(high);
      low = high / 16;
      high *= 4;
    }
    price_ = low;
    for (int i = 0; i <= 64; ++i) {
      const double price = low + (high - low) * i / 64;
      const double bound = root_bound(price);
      if (bound < best) continue;
      best = bound;
      price_ = price;
    }
    return best;
  }

  [[nodiscard]] std::vector<int> counts_of(std::size_t state) const {
    std::vector<int> counts(kinds_);
    for (std::size_t k = 0; k < kinds_; ++k) {
      counts[k] = static_cast<int>(state / strides_[k]) % (p_.layers[k] + 1);
    }
    return counts;
  }

  // Could a label with these sums, having done `counts`, still become an answer?
  [[nodiscard]] bool hopeful(const Label& label, const std::vector<int>& counts,
                             const std::vector<Least>& rest) const {
    double step_us = label.step_us, prompt_us = label.prompt_us;
    double own = cost(step_us, prompt_us), bytes = static_cast<double>(label.bytes);
    double priced = own;
    for (std::size_t k = 0; k < kinds_; ++k) {
      const int left = p_.layers[k] - counts[k];
      if (left == 0) continue;
      if (std::isinf(rest[k].bytes)) return false;
      step_us += left * rest[k].step_us;
      prompt_us += left * rest[k].prompt_us;
      own += left * rest[k].cost;
      priced += left * rest[k].priced;
      bytes += left * rest[k].bytes;
    }
    const auto limit = static_cast<double>(p_.bytes_limit);
    priced -= price_ * (limit - static_cast<double>(label.bytes));
    if (bytes > limit || own >= p_.cutoff || priced >= p_.cutoff) return false;
    return std::all_of(p_.limits.begin(), p_.limits.end(), [&](const TimeLimit& time) {
      return time.step_weight * step_us + time.prompt_weight * prompt_us <= time.limit_us;
    });
  }

  // Keeps labels that no other one beats everywhere.
  void keep_undominated(std::vector<Label>& labels) const {
    const bool timed = !p_.limits.empty();
    std::stable_sort(labels.begin(), labels.end(), [&](const Label& a, const Label& b) {
      const double x = cost(a.step_us, a.prompt_us), y = cost(b.step_us, b.prompt_us);
      return x != y ? x < y : a.bytes < b.bytes;
    });
    if (p_.all) return;
    std::vector<Label> kept;
    std::int64_t fewest = std::numeric_limits<std::int64_t>::max();
    for (const Label& label : labels) {
      bool dominated = label.bytes >= fewest;
      if (dominated && timed) {
        dominated = std::any_of(kept.begin(), kept.end(), [&](const Label& other) {
          return other.bytes <= label.bytes && other.step_us <= label.step_us &&
                 other.prompt_us <= label.prompt_us;
        });
      }
      if (dominated) continue;
      fewest = std::min(fewest, label.bytes);
      kept.push_back(label);
    }
    labels = std::move(kept);
  }

  struct Stage {
    int region = -1;
    std::vector<Label> bundles;              // `added` is an item
    std::vector<std::vector<int>> by_count;  // bundles by the layers they hold
    std::vector<Label> labels;               // `added` is a bundle; -1: none
    std::vector<std::vector<int>> by_state;  // labels by the layers done
  };

  [[nodiscard]] std::vector<Least> rest_after(int region) const {
    std::vector<Least> rest;
    for (std::size_t k = 0; k < kinds_; ++k) rest.push_back(least_of(k, region + 1, price_));
    return rest;
  }

  // All undominated ways to give layers to one region.
  void make_bundles(Stage& stage) {
    std::vector<std::vector<int>> where(states_);
    const std::vector<Least> rest = rest_after(-2);
    stage.bundles.push_back({});
    where[0] = {0};
    for (const int i : usable_) {
      const LayerItem& item = p_.items[i];
      if (item.region != stage.region) continue;
      const std::size_t stride = strides_[item.kind];
      for (std::size_t state = 0; state + stride < states_; ++state) {
        std::vector<int> counts = counts_of(state);
        if (counts[item.kind] == p_.layers[item.kind] || where[state].empty()) continue;
        ++counts[item.kind];
        const std::size_t next = state + stride;
        std::vector<Label> all;
        for (const int b : where[next]) all.push_back(stage.bundles[b]);
        const std::size_t before = all.size();
        for (const int b : where[state]) {
          const Label& from = stage.bundles[b];
          Label more{.step_us = from.step_us + item.step_us,
                     .prompt_us = from.prompt_us + item.prompt_us,
                     .bytes = from.bytes + item.bytes,
                     .parent = b,
                     .added = i};
          Label whole = more;  // the region may grow: layers count with their least shares
          whole.step_us += p_.step_us + least_shared(stage.region, counts);
          whole.prompt_us += p_.prompt_us;
          if (hopeful(whole, counts, rest)) all.push_back(more);
        }
        if (all.size() == before) continue;
        keep_undominated(all);
        where[next].clear();
        for (const Label& label : all) {
          where[next].push_back(static_cast<int>(stage.bundles.size()));
          stage.bundles.push_back(label);
        }
        if (stage.bundles.size() > most_) {
          out_.complete = false;
          return;
        }
      }
    }
    stage.by_count = std::move(where);
  }

  [[nodiscard]] double least_shared(int region, const std::vector<int>& counts) const {
    double least = 0;
    for (std::size_t k = 0; region >= 0 && k < kinds_; ++k) {
      least += counts[k] * share_us_[region][k];
    }
    return least;
  }

  [[nodiscard]] double shared(int region, std::size_t state) const {
    return region < 0 ? 0 : shared_us_[region][state];
  }

  void stages() {
    Stage start;
    start.labels.push_back({.step_us = p_.step_us, .prompt_us = p_.prompt_us});
    start.by_state.assign(states_, {});
    start.by_state[0] = {0};
    stages_.push_back(std::move(start));
    for (int region = -1; region < p_.regions && out_.complete; ++region) {
      const bool used = std::any_of(usable_.begin(), usable_.end(),
                                    [&](int i) { return p_.items[i].region == region; });
      if (!used) continue;
      Stage stage{.region = region};
      make_bundles(stage);
      if (out_.complete) join(stages_.back(), stage);
      stages_.push_back(std::move(stage));
    }
  }

  void join(const Stage& before, Stage& stage) {
    const std::vector<Least> rest = rest_after(stage.region);
    stage.by_state.assign(states_, {});
    std::vector<std::vector<Label>> found(states_);
    for (std::size_t state = 0; state < states_; ++state) {
      if (before.by_state[state].empty()) continue;
      const std::vector<int> done = counts_of(state);
      for (std::size_t more = 0; more + state < states_; ++more) {
        if (stage.by_count[more].empty()) continue;
        std::vector<int> counts = counts_of(more);
        bool fits = true;
        for (std::size_t k = 0; k < kinds_; ++k) {
          counts[k] += done[k];
          fits = fits && counts[k] <= p_.layers[k];
        }
        if (!fits) continue;
        const double update_us = shared(stage.region, more);
        for (const int l : before.by_state[state]) {
          for (const int b : stage.by_count[more]) {
            const Label& from = before.labels[l];
            const Label& bundle = stage.bundles[b];
            const Label label{.step_us = from.step_us + bundle.step_us + update_us,
                              .prompt_us = from.prompt_us + bundle.prompt_us,
                              .bytes = from.bytes + bundle.bytes,
                              .parent = l,
                              .added = b};
            if (hopeful(label, counts, rest)) found[state + more].push_back(label);
          }
        }
        if (found[state + more].size() > most_) keep_undominated(found[state + more]);
      }
    }
    for (std::size_t state = 0; state < states_; ++state) {
      keep_undominated(found[state]);
      for (const Label& label : found[state]) {
        stage.by_state[state].push_back(static_cast<int>(stage.labels.size()));
        stage.labels.push_back(label);
      }
    }
    if (stage.labels.size() > most_) out_.complete = false;
  }

  void collect() {
    const Stage& last = stages_.back();
    for (const int l : last.by_state[states_ - 1]) {
      const Label& label = last.labels[l];
      out_.answers.push_back({.cost = cost(label.step_us, label.prompt_us),
                              .bytes = label.bytes,
                              .picks = picks_of(l)});
    }
    out_.formed = out_.answers.size();
    if (out_.answers.empty()) {
      out_.bound = std::max(out_.bound, p_.cutoff);
    } else {
      out_.bound = out_.answers.front().cost;
    }
  }

  [[nodiscard]] LayerPicks picks_of(int label) const {
    std::vector<int> count(p_.items.size(), 0);
    for (std::size_t s = stages_.size(); s-- > 1;) {
      const Stage& stage = stages_[s];
      for (int b = stage.labels[label].added; b > 0; b = stage.bundles[b].parent) {
        ++count[stage.bundles[b].added];
      }
      label = stage.labels[label].parent;
    }
    LayerPicks picks;
    for (std::size_t i = 0; i < count.size(); ++i) {
      if (count[i] > 0) picks.emplace_back(static_cast<int>(i), count[i]);
    }
    return picks;
  }

  const LayerProblem& p_;
  std::size_t most_;
  std::size_t kinds_, states_ = 1;
  std::vector<std::size_t> strides_;
  std::vector<int> usable_;
  std::vector<std::vector<double>> share_us_;   // by region and kind
  std::vector<std::vector<double>> shared_us_;  // by region and state
  double price_ = 0;                            // of a byte
  std::vector<Stage> stages_;
  LayerAnswers out_;
};

}  // namespace

LayerAnswers solve(const LayerProblem& problem, std::size_t most_labels) {
  return Solver(problem, most_labels).run();
}

}  // namespace imhotep::planner
