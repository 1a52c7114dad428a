#include <cmath>
#include <sstream>

#include "core/base/fail.h"
#include "core/base/random.h"
#include "simulator/traffic/traffic.h"

namespace imhotep::simulator {
namespace {

std::int64_t between(std::int64_t low, std::int64_t high, double draw) {
  return low + static_cast<std::int64_t>(draw * static_cast<double>(high - low + 1));
}

}  // namespace

std::vector<TrafficRequest> poisson_traffic(const TrafficShape& shape, double rate_per_s,
                                            std::int64_t count, std::uint64_t seed) {
  std::vector<TrafficRequest> requests;
  double now_us = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto n = static_cast<std::uint64_t>(i);
    if (rate_per_s > 0) now_us -= std::log(1 - uniform(seed, n, 0)) / rate_per_s * 1e6;
    requests.push_back(
        {.arrival_us = now_us,
         .prompt = between(shape.prompt_low, shape.prompt_high, uniform(seed, n, 1)),
         .output = between(shape.output_low, shape.output_high, uniform(seed, n, 2))});
  }
  return requests;
}

std::vector<TrafficRequest> parse_trace(const std::string& text, const std::string& name) {
  std::vector<TrafficRequest> requests;
  std::istringstream lines(text);
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos || line[0] == '#') continue;
    double arrival_s = -1;
    TrafficRequest request;
    char comma[2] = {};
    std::istringstream fields(line);
    fields >> arrival_s >> comma[0] >> request.prompt >> comma[1] >> request.output;
    request.arrival_us = arrival_s * 1e6;
    const bool ordered = requests.empty() || requests.back().arrival_us <= request.arrival_us;
    if (!fields || comma[0] != ',' || comma[1] != ',' || arrival_s < 0 || !ordered ||
        request.prompt < 1 || request.output < 1) {
      fail_input("{}:{}: expected \"arrival_s,prompt,output\" with arrivals in order, got \"{}\"",
                 name, number, line);
    }
    requests.push_back(request);
  }
  if (requests.empty()) fail_input("{}: no request", name);
  return requests;
}

}  // namespace imhotep::simulator
