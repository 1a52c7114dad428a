#pragma once
// A file read through memory: pages come from disk when touched and are shared by all ranks.

#include <string>
#include <string_view>

namespace imhotep::executor {

class MappedFile {
 public:
  // Throws: Error(Input) naming the file and the cause.
  explicit MappedFile(std::string file);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  [[nodiscard]] const std::string& file() const { return file_; }
  [[nodiscard]] std::string_view bytes() const { return bytes_; }

 private:
  std::string file_;
  std::string_view bytes_;
};

}  // namespace imhotep::executor
