#pragma once
// Element types of files, and their conversion to the types of buffers.

#include <cstdint>

#include "core/base/dtype.h"
#include "core/base/enum_names.h"

namespace imhotep::executor {

// Named as safetensors does.
enum class ElementType : std::uint8_t {
  Bool,
  U8,
  I8,
  F8E5M2,
  F8E4M3,
  I16,
  U16,
  F16,
  Bf16,
  I32,
  U32,
  F32,
  F64,
  I64,
  U64
};

[[nodiscard]] std::int64_t bytes_of(ElementType type);
[[nodiscard]] ElementType element_type(Dtype dtype);
// F32, F64, BF16 and F16 convert to F32, F64 and BF16 (to BF16 by rounding to nearest even);
// any type is copied to itself.
[[nodiscard]] bool convertible(ElementType from, Dtype to);
// Requires: convertible(from, to).
void convert(const void* source, ElementType from, void* target, Dtype to, std::int64_t count);

// A sum over elements, each mixed with the name of its tensor and its place in it: parts may be
// added in any order and by any rank, and the file may be laid out in any order.
[[nodiscard]] std::uint64_t checksum(std::uint64_t name_hash, std::int64_t first,
                                     const void* elements, std::int64_t count,
                                     std::int64_t element_bytes);

}  // namespace imhotep::executor

IMHOTEP_ENUM_NAMES(
    imhotep::executor::ElementType, {imhotep::executor::ElementType::Bool, "BOOL"},
    {imhotep::executor::ElementType::U8, "U8"}, {imhotep::executor::ElementType::I8, "I8"},
    {imhotep::executor::ElementType::F8E5M2, "F8_E5M2"},
    {imhotep::executor::ElementType::F8E4M3, "F8_E4M3"},
    {imhotep::executor::ElementType::I16, "I16"}, {imhotep::executor::ElementType::U16, "U16"},
    {imhotep::executor::ElementType::F16, "F16"}, {imhotep::executor::ElementType::Bf16, "BF16"},
    {imhotep::executor::ElementType::I32, "I32"}, {imhotep::executor::ElementType::U32, "U32"},
    {imhotep::executor::ElementType::F32, "F32"}, {imhotep::executor::ElementType::F64, "F64"},
    {imhotep::executor::ElementType::I64, "I64"}, {imhotep::executor::ElementType::U64, "U64"})
