#pragma once
// Reading fields of a client's JSON body with errors that name the field. Internal to
// executor/serve; heavy: include from .cpp files only.

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "executor/serve/api.h"

namespace imhotep::executor {

using ApiJson = nlohmann::ordered_json;

// Throws: ApiError unless the body is a JSON object of moderate depth.
[[nodiscard]] ApiJson parse_object(std::string_view body);

class Fields {
 public:
  explicit Fields(const ApiJson& object) : object_(object) {}

  // Absent and null are the same.
  [[nodiscard]] const ApiJson* find(const char* name) const;
  [[nodiscard]] std::optional<std::int64_t> integer(const char* name, std::int64_t least,
                                                    std::int64_t most) const;
  [[nodiscard]] std::optional<double> number(const char* name, double least, double most) const;
  [[nodiscard]] bool boolean(const char* name, bool otherwise) const;
  [[nodiscard]] std::optional<std::string> text(const char* name) const;
  // Throws: ApiError when the field is there and is not what does nothing.
  void refuse_unless(const char* name, const char* neutral) const;

 private:
  const ApiJson& object_;
};

// The tokens of a text, as JSON strings may hold them: broken bytes become U+FFFD.
[[nodiscard]] std::string printable(std::string_view bytes);

}  // namespace imhotep::executor
