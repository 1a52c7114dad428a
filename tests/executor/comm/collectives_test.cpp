#include <doctest/doctest.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "core/base/error.h"
#include "core/base/random.h"
#include "executor/comm/communicator_pool.h"
#include "tests/executor/mpi_main.h"

using namespace imhotep;
using namespace imhotep::executor;

namespace {

Members first_ranks(int n) {
  Members members;
  for (int r = 0; r < n; ++r) members.emplace_back(r);
  return members;
}

// Groups of the first 1, 2, ... ranks of the world.
struct Groups {
  CommunicatorPool pool{test_bootstrap()};
  Groups() {
    std::vector<Members> all;
    for (int n = 1; n <= test_bootstrap().world(); ++n) all.push_back(first_ranks(n));
    pool.prepare(all);
  }
  template <class Body>
  void each(Body body) {
    for (int n = 1; n <= test_bootstrap().world(); ++n) {
      CAPTURE(n);
      if (test_bootstrap().rank() < n) body(pool.get(first_ranks(n)));
      test_bootstrap().barrier();
    }
  }
};

template <class T>
T value(int rank, std::int64_t i) {
  return static_cast<T>(uniform(42, rank, i) - 0.5);
}

template <class T>
void sums_agree(Communicator& group, std::int64_t elements, Dtype dtype) {
  std::vector<T> x(elements), all(elements * group.size());
  std::vector<double> exact(elements, 0.0);
  for (std::int64_t i = 0; i < elements; ++i) {
    x[i] = value<T>(group.rank(), i);
    for (int m = 0; m < group.size(); ++m) exact[i] += value<T>(m, i);
  }
  group.all_reduce(x.data(), elements, dtype);
  group.all_gather(x.data(), all.data(), elements * std::int64_t{sizeof(T)});
  for (int m = 0; m < group.size(); ++m) {
    CAPTURE(elements);
    CAPTURE(m);
    CHECK(std::memcmp(all.data() + m * elements, x.data(), elements * sizeof(T)) == 0);
  }
  const double tolerance = sizeof(T) == 4 ? 1e-5 : 1e-13;
  double worst = 0;
  for (std::int64_t i = 0; i < elements; ++i) worst = std::max(worst, std::abs(x[i] - exact[i]));
  CHECK(worst < tolerance);
}

template <class T>
void scatters_in_order(Communicator& group, std::int64_t elements, Dtype dtype, bool in_place) {
  std::vector<T> x(elements * group.size()), out(elements);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = value<T>(group.rank(), i);
  const std::int64_t own = group.rank() * elements;
  T* target = in_place ? x.data() + own : out.data();
  const Traffic before = group.traffic();
  group.reduce_scatter(x.data(), target, elements, dtype);
  const std::int64_t others = group.size() - 1;
  CHECK(group.traffic() - before ==
        Traffic{.messages = others, .bytes = others * elements * std::int64_t{sizeof(T)}});
  std::int64_t different = 0;
  for (std::int64_t i = 0; i < elements; ++i) {
    T sum = value<T>(0, own + i);
    for (int m = 1; m < group.size(); ++m) sum += value<T>(m, own + i);
    different += target[i] == sum ? 0 : 1;
  }
  CHECK(different == 0);
}

}  // namespace

TEST_CASE("sums have the same bits at every rank, for every group size") {
  Groups groups;
  groups.each([](Communicator& group) {
    for (const std::int64_t elements : {1, 2, 3, 7, 17, 255, 1000, 4099, 65537}) {
      sums_agree<float>(group, elements, Dtype::F32);
      sums_agree<double>(group, elements, Dtype::F64);
    }
    if (group.size() <= 8) sums_agree<float>(group, 300001, Dtype::F32);  // several blocks
    std::int32_t count = 1;
    group.all_reduce(&count, 1, Dtype::I32);
    CHECK(count == group.size());
  });
}

TEST_CASE("scattered sums are added in rank order") {
  Groups groups;
  groups.each([](Communicator& group) {
    for (const bool in_place : {false, true}) {
      scatters_in_order<float>(group, 5, Dtype::F32, in_place);
      scatters_in_order<float>(group, 60001, Dtype::F32, in_place);
      scatters_in_order<double>(group, 4099, Dtype::F64, in_place);
    }
  });
}

TEST_CASE("CPU ranks refuse to sum bf16") {
  Groups groups;
  std::uint16_t x[2] = {};
  if (test_bootstrap().rank() > 1) return;
  CHECK_THROWS_AS(groups.pool.get(first_ranks(2)).all_reduce(x, 2, Dtype::Bf16), Error);
}

TEST_CASE("gathers leave the own part in place, ragged ones too") {
  Groups groups;
  groups.each([](Communicator& group) {
    const int p = group.size();
    std::vector<std::int32_t> all(p, -1);
    all[group.rank()] = 10 * group.rank();
    group.all_gather(&all[group.rank()], all.data(), sizeof(std::int32_t));
    for (int m = 0; m < p; ++m) CHECK(all[m] == 10 * m);
    std::vector<std::int64_t> offsets(p + 1, 0);  // member m has (m % 3) bytes
    for (int m = 0; m < p; ++m) offsets[m + 1] = offsets[m] + m % 3;
    std::string bytes(offsets.back() + 1, '-');
    for (int i = 0; i < group.rank() % 3; ++i)
      bytes[offsets[group.rank()] + i] = static_cast<char>('a' + group.rank());
    const Traffic before = group.traffic();
    group.all_gather_v(bytes.data() + offsets[group.rank()], bytes.data(), offsets);
    const std::int64_t sent = group.rank() % 3 == 0 ? 0 : p - 1;
    CHECK(group.traffic() - before ==
          Traffic{.messages = sent, .bytes = sent * (group.rank() % 3)});
    std::string expected;
    for (int m = 0; m < p; ++m) expected += std::string(m % 3, static_cast<char>('a' + m));
    CHECK(bytes == expected + "-");
  });
}

TEST_CASE("ragged all-to-all moves random bytes between random places") {
  Groups groups;
  groups.each([](Communicator& group) {
    const int p = group.size(), me = group.rank();
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      CAPTURE(seed);
      const auto bytes = [&](int from, int to) {
        const std::uint64_t h = hash(seed, from, to);
        return static_cast<std::int64_t>(h % 3 == 0 ? 0 : h % 5000);
      };
      const auto letter = [&](int from, int to, std::int64_t i) {
        return static_cast<char>(hash(seed, from, to, i));
      };
      std::vector<std::int64_t> send(p), send_at(p), receive(p), receive_at(p);
      std::int64_t sent = 3, got = 5, messages = 0, payload = 0;
      for (int m = 0; m < p; ++m) {  // gaps of seven bytes between parts
        send_at[m] = sent, receive_at[m] = got;
        sent += (send[m] = bytes(me, m)) + 7;
        got += (receive[m] = bytes(m, me)) + 7;
        if (m != me && send[m] > 0) ++messages, payload += send[m];
      }
      std::vector<char> in(sent, '?'), out(got, '!');
      for (int m = 0; m < p; ++m) {
        for (std::int64_t i = 0; i < send[m]; ++i) in[send_at[m] + i] = letter(me, m, i);
      }
      std::vector<char> expected(got, '!');
      for (int m = 0; m < p; ++m) {
        for (std::int64_t i = 0; i < receive[m]; ++i)
          expected[receive_at[m] + i] = letter(m, me, i);
      }
      const Traffic before = group.traffic();
      group.all_to_all_v(in.data(), out.data(), {.bytes = send, .offsets = send_at},
                         {.bytes = receive, .offsets = receive_at});
      CHECK(out == expected);
      CHECK(group.traffic() - before == Traffic{.messages = messages, .bytes = payload});
    }
  });
}

TEST_CASE("several pieces travel as one message and may be cut differently where they arrive") {
  Groups groups;
  groups.each([](Communicator& group) {
    const int p = group.size();
    std::string in, out(4 * p, '-');
    for (int m = 0; m < p; ++m) in += std::string(4, static_cast<char>('a' + group.rank()));
    PieceLists send(p, 2), receive(p, 2);
    for (int m = 0; m < p; ++m) {
      send.add(m, 4 * m, 1);
      send.add(m, 4 * m + 2, 2);
      receive.add(m, m, 1);              // the first bytes of all members,
      receive.add(m, 2 * p + 2 * m, 2);  // then a gap, then their other two
    }
    const Traffic before = group.traffic();
    group.transfer("test", in.data(), out.data(), send, receive);
    CHECK(group.traffic() - before == Traffic{.messages = p - 1, .bytes = 3 * (p - 1)});
    std::string expected;
    for (int m = 0; m < p; ++m) expected += static_cast<char>('a' + m);
    expected += std::string(p, '-');
    for (int m = 0; m < p; ++m) expected += std::string(2, static_cast<char>('a' + m));
    CHECK(out == expected);
  });
}

TEST_CASE("a message longer than expected is an error that names collective, group and rank") {
  Groups groups;
  if (test_bootstrap().rank() > 1) return;
  Communicator& pair = groups.pool.get(first_ranks(2));
  const bool receives = pair.rank() == 1;
  char in[16] = {}, out[16] = {};
  PieceLists send(2), receive(2);
  if (receives) receive.add(0, 0, 4);
  if (!receives) send.add(1, 0, 8);
  std::string message;
  try {
    pair.transfer("all_to_all_v", in, out, send, receive);
  } catch (const Error& error) {
    message = error.what();
  }
  const std::string place = "all_to_all_v over ranks {0, 1}, at rank 1: MPI_ERR_TRUNCATE";
  CHECK(message.substr(0, place.size()) == (receives ? place : ""));
}
