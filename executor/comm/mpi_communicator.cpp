// Groups over MPI. Transfers are posted all at once, receives first, straight from and into the
// caller's memory; several pieces travel as one message of a derived type. Sums of all members are
// the MPI library's, in blocks that bound its temporary memory (1 MiB blocks are as fast as any on
// the machines measured, and faster than one call from 16 MiB on); every algorithm that Open MPI
// picks computes an element once or symmetrically, so all members get the same bits, which
// tests/executor/comm_collectives_test.cpp demands for every group size.

#include <mpi.h>

#include <algorithm>

#include "core/base/fail.h"
#include "executor/comm/communicator.h"
#include "executor/comm/mpi_check.h"
#include "executor/comm/ordered_sum.h"

namespace imhotep::executor {
namespace {

constexpr int kTag = 1;
constexpr std::int64_t kLargestPiece = std::int64_t{1} << 30;  // MPI counts are 32 bits wide
constexpr std::int64_t kSumBlockBytes = std::int64_t{1} << 20;

MPI_Datatype type_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::F32:
      return MPI_FLOAT;
    case Dtype::F64:
      return MPI_DOUBLE;
    case Dtype::I32:
      return MPI_INT32_T;
    case Dtype::Bf16:
      break;
  }
  fail("CPU ranks sum fp32, fp64 and int32, not bf16");
}

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(const Members& members, int rank, MPI_Comm comm)
      : Communicator(members, rank), comm_(comm) {
    requests_.reserve(2 * members.size());
    types_.reserve(2 * members.size());
  }
  ~MpiCommunicator() override {
    int finalized = 0;
    MPI_Finalized(&finalized);
    if (finalized == 0) MPI_Comm_free(&comm_);
  }
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  void all_reduce(void* data, std::int64_t elements, Dtype dtype) override {
    const MPI_Datatype type = type_of(dtype);
    const std::int64_t block = kSumBlockBytes / bytes_of(dtype);
    auto* at = static_cast<char*>(data);
    for (std::int64_t done = 0; done < elements; done += block) {
      const auto n = static_cast<int>(std::min(block, elements - done));
      check(MPI_Allreduce(MPI_IN_PLACE, at + done * bytes_of(dtype), n, type, MPI_SUM, comm_),
            "all_reduce");
    }
  }

  void reduce_scatter(const void* in, void* out, std::int64_t elements, Dtype dtype) override;
  void barrier() override { check(MPI_Barrier(comm_), "barrier"); }

 protected:
  void transfer_others(std::string_view what, const void* in, void* out, const PieceLists& send,
                       const PieceLists& receive) override;

 private:
  void check(int code, std::string_view what) const {
    if (code != MPI_SUCCESS) fail("{}: {}", place(what), mpi_error_text(code));
  }
  void post(std::string_view what, char* base, std::span<const Piece> pieces, int peer, bool sends);
  void start(std::string_view what, char* at, int count, MPI_Datatype type, int peer, bool sends);
  void finish(std::string_view what);
  void scatter_block(const char* in, char* out, std::int64_t stride_bytes, std::int64_t elements,
                     Dtype dtype);

  MPI_Comm comm_;
  std::vector<MPI_Request> requests_;
  std::vector<MPI_Datatype> types_;  // derived ones, freed when their messages are done
  std::vector<int> lengths_;
  std::vector<MPI_Aint> offsets_;
  std::vector<char> parts_;  // reduce_scatter: one block from every other member
};

void MpiCommunicator::start(std::string_view what, char* at, int count, MPI_Datatype type, int peer,
                            bool sends) {
  requests_.push_back(MPI_REQUEST_NULL);
  check(sends ? MPI_Isend(at, count, type, peer, kTag, comm_, &requests_.back())
              : MPI_Irecv(at, count, type, peer, kTag, comm_, &requests_.back()),
        what);
}

void MpiCommunicator::post(std::string_view what, char* base, std::span<const Piece> pieces,
                           int peer, bool sends) {
  if (pieces.size() == 1 && pieces[0].bytes <= kLargestPiece) {
    const auto bytes = static_cast<int>(pieces[0].bytes);
    start(what, base + pieces[0].offset, bytes, MPI_BYTE, peer, sends);
    return;
  }
  lengths_.clear();
  offsets_.clear();
  for (const Piece& piece : pieces) {
    for (std::int64_t done = 0; done < piece.bytes; done += kLargestPiece) {
      lengths_.push_back(static_cast<int>(std::min(kLargestPiece, piece.bytes - done)));
      offsets_.push_back(piece.offset + done);
    }
  }
  MPI_Datatype type = MPI_DATATYPE_NULL;
  check(MPI_Type_create_hindexed(static_cast<int>(lengths_.size()), lengths_.data(),
                                 offsets_.data(), MPI_BYTE, &type),
        what);
  types_.push_back(type);
  check(MPI_Type_commit(&types_.back()), what);
  start(what, base, 1, type, peer, sends);
}

void MpiCommunicator::finish(std::string_view what) {
  int code = MPI_SUCCESS;  // one by one: Open MPI 4.1's MPI_Waitall can hang on an error
  for (MPI_Request& request : requests_) {
    const int own = MPI_Wait(&request, MPI_STATUS_IGNORE);
    if (own != MPI_SUCCESS) code = own;
  }
  requests_.clear();
  for (MPI_Datatype& type : types_) MPI_Type_free(&type);
  types_.clear();
  check(code, what);
}

void MpiCommunicator::transfer_others(std::string_view what, const void* in, void* out,
                                      const PieceLists& send, const PieceLists& receive) {
  auto* source = const_cast<char*>(static_cast<const char*>(in));  // MPI only reads it
  auto* target = static_cast<char*>(out);
  for (int step = 1; step < size(); ++step) {
    const int peer = (rank() + size() - step) % size();
    if (!receive.of(peer).empty()) post(what, target, receive.of(peer), peer, false);
  }
  for (int step = 1; step < size(); ++step) {
    const int peer = (rank() + step) % size();
    if (!send.of(peer).empty()) post(what, source, send.of(peer), peer, true);
  }
  finish(what);
}

void MpiCommunicator::reduce_scatter(const void* in, void* out, std::int64_t elements,
                                     Dtype dtype) {
  static_cast<void>(type_of(dtype));
  const std::int64_t width = bytes_of(dtype);
  const std::int64_t block =
      std::max<std::int64_t>(1024, kSumBlockBytes / (width * std::max(1, size() - 1)));
  parts_.resize(static_cast<std::size_t>((size() - 1) * std::min(block, elements) * width));
  for (std::int64_t done = 0; done < elements; done += block) {
    scatter_block(static_cast<const char*>(in) + done * width,
                  static_cast<char*>(out) + done * width, elements * width,
                  std::min(block, elements - done), dtype);
  }
  if (elements > 0) count(size() - 1, (size() - 1) * elements * width);
}

// The first `elements` of every part; parts lie stride_bytes apart.
void MpiCommunicator::scatter_block(const char* in, char* out, std::int64_t stride_bytes,
                                    std::int64_t elements, Dtype dtype) {
  const std::int64_t bytes = elements * bytes_of(dtype);
  for (int m = 0, part = 0; m < size(); ++m) {
    if (m == rank()) continue;
    start("reduce_scatter", parts_.data() + (part++) * bytes, static_cast<int>(bytes), MPI_BYTE, m,
          false);
  }
  for (int step = 1; step < size(); ++step) {
    const int peer = (rank() + step) % size();
    start("reduce_scatter", const_cast<char*>(in) + peer * stride_bytes, static_cast<int>(bytes),
          MPI_BYTE, peer, true);
  }
  finish("reduce_scatter");
  const char* own = in + rank() * stride_bytes;
  add_in_rank_order(out, own, parts_.data(), {.rank = rank(), .size = size(), .elements = elements},
                    dtype);
}

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(const Members& members, int tag) {
  std::vector<int> ranks;
  for (const Rank member : members) ranks.push_back(member.value);
  MPI_Group world = MPI_GROUP_NULL, group = MPI_GROUP_NULL;
  MPI_Comm comm = MPI_COMM_NULL;
  mpi_check(MPI_Comm_group(MPI_COMM_WORLD, &world), "MPI_Comm_group");
  mpi_check(MPI_Group_incl(world, static_cast<int>(ranks.size()), ranks.data(), &group),
            "MPI_Group_incl");
  mpi_check(MPI_Comm_create_group(MPI_COMM_WORLD, group, tag, &comm), "MPI_Comm_create_group");
  MPI_Group_free(&group);
  MPI_Group_free(&world);
  mpi_check(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  int rank = 0;
  mpi_check(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank");
  return std::make_unique<MpiCommunicator>(members, rank, comm);
}

}  // namespace imhotep::executor
