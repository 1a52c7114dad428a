// Groups over TCP. Sums go by the shares of their members: everybody adds one share in rank order,
// then all gather the shares, so all hold the same bits.

#include <algorithm>

#include "core/base/fail.h"
#include "core/base/random.h"
#include "executor/comm/ordered_sum.h"
#include "executor/comm/tcp_world.h"

namespace imhotep::executor {
namespace {

constexpr std::int64_t kSumBlockBytes = std::int64_t{1} << 20;

std::uint32_t name_of_group(const Members& members) {
  std::uint64_t name = members.size();
  for (const Rank member : members) name = hash(name, member.value);
  return static_cast<std::uint32_t>(name);
}

int place_in(const Members& members, int rank) {
  const auto found = std::find(members.begin(), members.end(), Rank(rank));
  if (found == members.end()) fail("rank {} is no member of a group it makes", rank);
  return static_cast<int>(found - members.begin());
}

class TcpCommunicator final : public Communicator {
 public:
  TcpCommunicator(TcpWorld& world, const Members& members)
      : Communicator(members, place_in(members, world.place().rank)),
        world_(world),
        name_(name_of_group(members)),
        send_(size()),
        receive_(size()) {}

  void all_reduce(void* data, std::int64_t elements, Dtype dtype) override {
    const std::int64_t block = kSumBlockBytes / bytes_of(dtype);
    auto* at = static_cast<char*>(data);
    for (std::int64_t done = 0; done < elements; done += block) {
      sum_block(at + done * bytes_of(dtype), std::min(block, elements - done), dtype);
    }
  }

  void reduce_scatter(const void* in, void* out, std::int64_t elements, Dtype dtype) override {
    const std::int64_t width = bytes_of(dtype), stride = elements * width;
    const std::int64_t block = std::max<std::int64_t>(1024, kSumBlockBytes / (width * size()));
    const auto* source = static_cast<const char*>(in);
    for (std::int64_t done = 0; done < elements; done += block) {
      const std::int64_t count = std::min(block, elements - done), bytes = count * width;
      send_.clear();
      for (int m = 0; m < size(); ++m) {
        if (m != rank()) send_.add(m, m * stride + done * width, bytes);
      }
      collect(source, bytes, "reduce_scatter");
      add_in_rank_order(static_cast<char*>(out) + done * width,
                        source + rank() * stride + done * width, parts_.data(),
                        {.rank = rank(), .size = size(), .elements = count}, dtype);
    }
    if (elements > 0) count(size() - 1, (size() - 1) * elements * width);
  }

  void barrier() override {
    char own = 0;
    send_.clear();
    for (int m = 0; m < size(); ++m) {
      if (m != rank()) send_.add(m, 0, 1);
    }
    collect(&own, 1, "barrier");
  }

 protected:
  void transfer_others(std::string_view what, const void* in, void* out, const PieceLists& send,
                       const PieceLists& receive) override {
    sends_.clear();
    receives_.clear();
    auto* source = const_cast<char*>(static_cast<const char*>(in));  // only read
    for (int step = 1; step < size(); ++step) {
      const int to = (rank() + step) % size(), from = (rank() + size() - step) % size();
      if (!send.of(to).empty()) sends_.push_back({members()[to].value, source, send.of(to)});
      if (receive.of(from).empty()) continue;
      receives_.push_back({members()[from].value, static_cast<char*>(out), receive.of(from)});
    }
    world_.move(
        name_, [&] { return place(what); }, sends_, receives_);
  }

 private:
  // What send_ lists, and as many bytes from every other member into parts_, by rank.
  void collect(const char* in, std::int64_t bytes, std::string_view what) {
    parts_.resize(static_cast<std::size_t>((size() - 1) * bytes));
    receive_.clear();
    for (int m = 0, part = 0; m < size(); ++m) {
      if (m != rank()) receive_.add(m, (part++) * bytes, bytes);
    }
    transfer_others(what, in, parts_.data(), send_, receive_);
  }

  void sum_block(char* data, std::int64_t elements, Dtype dtype) {
    const std::int64_t width = bytes_of(dtype), share = (elements + size() - 1) / size();
    const auto begin = [&](int m) { return std::min(elements, m * share) * width; };
    const std::int64_t own = begin(rank() + 1) - begin(rank());
    send_.clear();
    for (int m = 0; m < size(); ++m) {
      if (m != rank()) send_.add(m, begin(m), begin(m + 1) - begin(m));
    }
    collect(data, own, "all_reduce");
    if (own > 0) {
      add_in_rank_order(data + begin(rank()), data + begin(rank()), parts_.data(),
                        {.rank = rank(), .size = size(), .elements = own / width}, dtype);
    }
    send_.clear();
    receive_.clear();
    for (int m = 0; m < size(); ++m) {
      if (m == rank()) continue;
      send_.add(m, begin(rank()), own);
      receive_.add(m, begin(m), begin(m + 1) - begin(m));
    }
    transfer_others("all_reduce", data, data, send_, receive_);
  }

  TcpWorld& world_;
  std::uint32_t name_;
  PieceLists send_, receive_;
  std::vector<TcpWorld::Flow> sends_, receives_;
  std::vector<char> parts_;
};

}  // namespace

std::unique_ptr<Communicator> make_tcp_communicator(TcpWorld& world, const Members& members) {
  return std::make_unique<TcpCommunicator>(world, members);
}

}  // namespace imhotep::executor
