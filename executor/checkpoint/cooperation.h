#pragma once
// What ranks need from each other to save and load together. The executor gives its communicator;
// one process alone, or a test that plays all ranks, gives its own.

#include <cstdint>
#include <string>

namespace imhotep::executor {

class Cooperation {
 public:
  Cooperation() = default;
  Cooperation(const Cooperation&) = delete;
  Cooperation& operator=(const Cooperation&) = delete;
  virtual ~Cooperation() = default;

  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int world() const = 0;
  // Collective, and a barrier: the text of the lowest rank whose `own` is not empty, on every
  // rank; empty when all are.
  [[nodiscard]] virtual std::string first_error(const std::string& own) = 0;
  // Collective: the sum over the ranks, modulo 2^64, on every rank.
  [[nodiscard]] virtual std::uint64_t sum(std::uint64_t own) = 0;
};

class SingleProcess : public Cooperation {
 public:
  [[nodiscard]] int rank() const override { return 0; }
  [[nodiscard]] int world() const override { return 1; }
  [[nodiscard]] std::string first_error(const std::string& own) override { return own; }
  [[nodiscard]] std::uint64_t sum(std::uint64_t own) override { return own; }
};

}  // namespace imhotep::executor
