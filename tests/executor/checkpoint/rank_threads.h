#pragma once
// All ranks of a world as threads of one process.

#include <barrier>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "executor/checkpoint/cooperation.h"

namespace imhotep::executor {

class ThreadWorld {
 public:
  explicit ThreadWorld(int world) : barrier_(world), errors_(world), sums_(world) {}

  // Runs `work` on every rank and returns what each threw; "" for a rank that did not.
  std::vector<std::string> run(const std::function<void(Cooperation&)>& work) {
    std::vector<std::string> thrown(errors_.size());
    std::vector<std::thread> threads;
    for (std::size_t rank = 0; rank < errors_.size(); ++rank) {
      threads.emplace_back([this, rank, &work, &thrown] {
        Member member(*this, static_cast<int>(rank));
        try {
          work(member);
        } catch (const std::exception& error) {
          thrown[rank] = error.what();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    return thrown;
  }

 private:
  class Member : public Cooperation {
   public:
    Member(ThreadWorld& world, int rank) : world_(world), rank_(rank) {}
    [[nodiscard]] int rank() const override { return rank_; }
    [[nodiscard]] int world() const override { return static_cast<int>(world_.errors_.size()); }
    [[nodiscard]] std::string first_error(const std::string& own) override {
      world_.errors_[rank_] = own;
      world_.barrier_.arrive_and_wait();
      std::string first;
      for (const std::string& error : world_.errors_) {
        if (first.empty()) first = error;
      }
      world_.barrier_.arrive_and_wait();
      return first;
    }
    [[nodiscard]] std::uint64_t sum(std::uint64_t own) override {
      world_.sums_[rank_] = own;
      world_.barrier_.arrive_and_wait();
      std::uint64_t total = 0;
      for (const std::uint64_t part : world_.sums_) total += part;
      world_.barrier_.arrive_and_wait();
      return total;
    }

   private:
    ThreadWorld& world_;
    int rank_;
  };

  std::barrier<> barrier_;
  std::vector<std::string> errors_;
  std::vector<std::uint64_t> sums_;
};

}  // namespace imhotep::executor
