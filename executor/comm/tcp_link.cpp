#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "core/base/fail.h"
#include "executor/comm/rank_link.h"
#include "executor/comm/tcp_world.h"

namespace imhotep::executor {
namespace {

class TcpLink final : public RankLink {
 public:
  TcpLink() : ranks_(tcp_place()), node_ranks_(ranks_.node_ranks()) {
    Members all;
    for (int r = 0; r < world(); ++r) all.emplace_back(r);
    all_ = world() == 1 ? make_lone_communicator(Rank(0)) : make_tcp_communicator(ranks_, all);
  }

  [[nodiscard]] int rank() const override { return ranks_.place().rank; }
  [[nodiscard]] int world() const override { return ranks_.place().world; }
  [[nodiscard]] int nodes() const override { return ranks_.nodes(); }
  [[nodiscard]] const std::vector<int>& node_ranks() const override { return node_ranks_; }
  [[nodiscard]] std::string describe() const override {
    return fmt::format("TCP, {} rank{} on {} node{}, started by RANK and MASTER_ADDR", world(),
                       world() == 1 ? "" : "s", nodes(), nodes() == 1 ? "" : "s");
  }

  void* share(std::int64_t bytes) override {
    const std::string name = fmt::format("/imhotep-{}-{}", ranks_.token(), node_ranks_.front());
    const bool leader = rank() == node_ranks_.front();
    int file = -1;
    if (leader) {
      file = ::shm_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
      if (file < 0 || ::ftruncate(file, bytes) != 0) {
        fail("shared memory {}: {}", name, std::strerror(errno));
      }
    }
    all_->barrier();
    if (!leader) file = ::shm_open(name.c_str(), O_RDWR, 0600);
    if (file < 0) fail("shared memory {}: {}", name, std::strerror(errno));
    void* base = ::mmap(nullptr, static_cast<std::size_t>(bytes), PROT_READ | PROT_WRITE,
                        MAP_SHARED, file, 0);
    ::close(file);
    all_->barrier();
    if (leader) ::shm_unlink(name.c_str());
    if (base == MAP_FAILED) fail("shared memory {}: {}", name, std::strerror(errno));
    return base;
  }

  void barrier() override { all_->barrier(); }

  void broadcast(void* data, std::int64_t bytes, int root) override {
    PieceLists send(world()), receive(world());
    for (int r = 0; r < world() && rank() == root; ++r) {
      if (r != root) send.add(r, 0, bytes);
    }
    if (rank() != root) receive.add(root, 0, bytes);
    all_->transfer("broadcast", data, data, send, receive);
  }

  std::vector<std::string> gather(const std::string& text) override {
    const auto own = static_cast<std::int64_t>(text.size());
    std::vector<std::int64_t> sizes(world()), offsets(world() + 1, 0);
    all_->all_gather(&own, sizes.data(), sizeof own);
    for (int r = 0; r < world(); ++r) offsets[r + 1] = offsets[r] + sizes[r];
    PieceLists send(world()), receive(world());
    if (rank() != 0) send.add(0, 0, own);
    std::string all(rank() == 0 ? static_cast<std::size_t>(offsets.back()) : 0, '\0');
    for (int r = 1; r < world() && rank() == 0; ++r) receive.add(r, offsets[r], sizes[r]);
    all_->transfer("gather", text.data(), all.data(), send, receive);
    std::vector<std::string> texts;
    if (rank() != 0) return texts;
    texts.push_back(text);
    for (int r = 1; r < world(); ++r) {
      texts.push_back(
          all.substr(static_cast<std::size_t>(offsets[r]), static_cast<std::size_t>(sizes[r])));
    }
    return texts;
  }

  double largest(double value) override {
    std::vector<double> all(world());
    all_->all_gather(&value, all.data(), sizeof value);
    return *std::max_element(all.begin(), all.end());
  }

  std::unique_ptr<Communicator> make_group(const Members& members, int) override {
    return make_tcp_communicator(ranks_, members);
  }

  void finish() override { all_->barrier(); }

  void end(int code) override {
    ranks_.tell_end(code);
    std::_Exit(code);
  }

 private:
  TcpWorld ranks_;
  std::vector<int> node_ranks_;
  std::unique_ptr<Communicator> all_;
};

}  // namespace

std::unique_ptr<RankLink> make_tcp_link() { return std::make_unique<TcpLink>(); }

}  // namespace imhotep::executor
