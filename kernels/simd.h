#pragma once
// How a portable binary uses the vectors of the machine it runs on.
// A function marked IMHOTEP_CLONES is compiled for AVX-512, AVX2 and the baseline; the loader picks
// one. What it calls must be IMHOTEP_INLINE, or it stays baseline code; a template or a lambda
// cannot be cloned. So a kernel is an IMHOTEP_INLINE template foo_body<T>(shape, operands) and
// IMHOTEP_KERNEL(foo, Foo) after it, inside namespace cpu.
// Loops need IMHOTEP_SIMD (iterations are independent: equal pointers are fine, shifted ones are
// not), IMHOTEP_REDUCE(+ : sum) or IMHOTEP_REDUCE(max : m) on the line before them; .cpp files
// only, with IMHOTEP_KERNEL_FLAGS of kernels/dense.cmake.

// gcc's sanitizers run before the resolvers that pick a clone and crash in them.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(IMHOTEP_SANITIZED)
#define IMHOTEP_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define IMHOTEP_CLONES
#endif

#define IMHOTEP_INLINE __attribute__((always_inline)) inline
#define IMHOTEP_PRAGMA(text) _Pragma(#text)
#define IMHOTEP_SIMD IMHOTEP_PRAGMA(omp simd)
#define IMHOTEP_REDUCE(...) IMHOTEP_PRAGMA(omp simd reduction(__VA_ARGS__))

// Defines family<float> and family<double>, declared in the family's header.
#define IMHOTEP_KERNEL(family, Shape)                                                       \
  template <>                                                                               \
  IMHOTEP_CLONES void family<float>(const Shape& shape, const Shape##Operands& operands) {  \
    family##_body<float>(shape, operands);                                                  \
  }                                                                                         \
  template <>                                                                               \
  IMHOTEP_CLONES void family<double>(const Shape& shape, const Shape##Operands& operands) { \
    family##_body<double>(shape, operands);                                                 \
  }
