#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>

#include "executor/comm/mpi_check.h"
#include "executor/comm/rank_link.h"

namespace imhotep::executor {
namespace {

constexpr std::int64_t kLargestMessage = std::int64_t{1} << 30;

bool is_set(const char* name) { return std::getenv(name) != nullptr; }

std::string launcher() {
  if (is_set("OMPI_COMM_WORLD_RANK")) return "mpirun";
  return is_set("SLURM_PROCID") ? "srun" : "a PMI launcher";
}

// "Open MPI v4.1.4, package: Debian OpenMPI, ..." -> "Open MPI 4.1.4"
std::string library_name() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  MPI_Get_library_version(text, &length);
  std::string name(text, static_cast<std::size_t>(length));
  name = name.substr(0, name.find_first_of(",\n"));
  const auto version = name.find(" v");
  if (version != std::string::npos) name.erase(version + 1, 1);
  return name;
}

class MpiLink final : public RankLink {
 public:
  MpiLink() {
    int provided = 0;
    mpi_check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    mpi_check(MPI_Comm_dup(MPI_COMM_WORLD, &world_), "MPI_Comm_dup");
    MPI_Comm_rank(world_, &rank_);
    MPI_Comm_size(world_, &size_);
    mpi_check(MPI_Comm_split_type(world_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &node_),
              "MPI_Comm_split_type");
    int node_size = 0;
    MPI_Comm_rank(node_, &node_rank_);
    MPI_Comm_size(node_, &node_size);
    const int leader = node_rank_ == 0 ? 1 : 0;
    mpi_check(MPI_Allreduce(&leader, &nodes_, 1, MPI_INT, MPI_SUM, world_), "MPI_Allreduce");
    node_ranks_.resize(node_size);
    mpi_check(MPI_Allgather(&rank_, 1, MPI_INT, node_ranks_.data(), 1, MPI_INT, node_),
              "MPI_Allgather");
  }

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int world() const override { return size_; }
  [[nodiscard]] int nodes() const override { return nodes_; }
  [[nodiscard]] const std::vector<int>& node_ranks() const override { return node_ranks_; }
  [[nodiscard]] std::string describe() const override {
    return fmt::format("{}, {} rank{} on {} node{}, started by {}", library_name(), size_,
                       size_ == 1 ? "" : "s", nodes_, nodes_ == 1 ? "" : "s", launcher());
  }

  void* share(std::int64_t bytes) override {
    void* base = nullptr;
    const MPI_Aint own = node_rank_ == 0 ? bytes : 0;
    mpi_check(MPI_Win_allocate_shared(own, 1, MPI_INFO_NULL, node_, &base, &window_),
              "MPI_Win_allocate_shared");
    MPI_Aint size = 0;
    int unit = 0;
    mpi_check(MPI_Win_shared_query(window_, 0, &size, &unit, &base), "MPI_Win_shared_query");
    if (node_rank_ == 0) std::memset(base, 0, static_cast<std::size_t>(bytes));
    mpi_check(MPI_Barrier(node_), "barrier");
    return base;
  }

  void barrier() override { mpi_check(MPI_Barrier(world_), "barrier"); }

  void broadcast(void* data, std::int64_t bytes, int root) override {
    auto* at = static_cast<char*>(data);
    for (std::int64_t done = 0; done < bytes; done += kLargestMessage) {
      const auto count = static_cast<int>(std::min(kLargestMessage, bytes - done));
      mpi_check(MPI_Bcast(at + done, count, MPI_BYTE, root, world_), "broadcast");
    }
  }

  std::vector<std::string> gather(const std::string& text) override {
    const auto own = static_cast<int>(text.size());
    std::vector<int> sizes(rank_ == 0 ? size_ : 0), begins(sizes.size());
    mpi_check(MPI_Gather(&own, 1, MPI_INT, sizes.data(), 1, MPI_INT, 0, world_), "gather");
    std::exclusive_scan(sizes.begin(), sizes.end(), begins.begin(), 0);
    std::string all(rank_ == 0 ? begins.back() + sizes.back() : 0, '\0');
    mpi_check(MPI_Gatherv(text.data(), own, MPI_CHAR, all.data(), sizes.data(), begins.data(),
                          MPI_CHAR, 0, world_),
              "gather");
    std::vector<std::string> texts;
    for (std::size_t r = 0; r < sizes.size(); ++r) texts.push_back(all.substr(begins[r], sizes[r]));
    return texts;
  }

  double largest(double value) override {
    mpi_check(MPI_Allreduce(MPI_IN_PLACE, &value, 1, MPI_DOUBLE, MPI_MAX, world_), "largest");
    return value;
  }

  std::unique_ptr<Communicator> make_group(const Members& members, int tag) override {
    return make_mpi_communicator(members, tag);
  }

  void finish() override {
    if (window_ != MPI_WIN_NULL) MPI_Win_free(&window_);
    MPI_Comm_free(&node_);
    MPI_Comm_free(&world_);
    MPI_Finalize();
  }

  void end(int code) override {
    MPI_Abort(MPI_COMM_WORLD, code);
    std::_Exit(code);
  }

 private:
  MPI_Comm world_ = MPI_COMM_NULL;  // a duplicate: its messages meet no others
  MPI_Comm node_ = MPI_COMM_NULL;   // the ranks of this machine
  MPI_Win window_ = MPI_WIN_NULL;
  int rank_ = 0, size_ = 1, nodes_ = 1, node_rank_ = 0;
  std::vector<int> node_ranks_;
};

}  // namespace

bool mpi_launched() {
  return is_set("OMPI_COMM_WORLD_RANK") || is_set("PMIX_RANK") || is_set("PMI_RANK");
}

std::unique_ptr<RankLink> make_mpi_link() { return std::make_unique<MpiLink>(); }

}  // namespace imhotep::executor
