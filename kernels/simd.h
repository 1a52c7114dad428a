#pragma once
// How a portable binary uses the vectors of the machine it runs on.
// A function marked IMHOTEP_CLONES is compiled for AVX-512, AVX2 and the baseline; the loader picks
// one. What it calls must be IMHOTEP_INLINE, or it stays baseline code. So a kernel is an
// IMHOTEP_INLINE template with the body and one marked plain function a type (a template cannot be
// cloned, and neither can a lambda).
// Loops vectorise by themselves when their pointers are IMHOTEP_RESTRICT; sums and maxima need
// IMHOTEP_REDUCE(+ : sum) or IMHOTEP_REDUCE(max : m) on the line before the loop (.cpp files only:
// the flags of kernels/dense.cmake enable it).

// gcc's sanitizers run before the resolvers that pick a clone and crash in them.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(IMHOTEP_SANITIZED)
#define IMHOTEP_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define IMHOTEP_CLONES
#endif

#define IMHOTEP_INLINE __attribute__((always_inline)) inline
#define IMHOTEP_RESTRICT __restrict__
#define IMHOTEP_PRAGMA(text) _Pragma(#text)
#define IMHOTEP_REDUCE(...) IMHOTEP_PRAGMA(omp simd reduction(__VA_ARGS__))
