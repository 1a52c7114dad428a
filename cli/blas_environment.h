#pragma once
// OpenBLAS chooses its kernels by processor model, once, while the program is being loaded. A
// processor newer than the library is not in its table and gets the AVX2 kernels even when it has
// AVX-512: OpenBLAS 0.3.21 on a Zen 5 core takes "Zen" and reaches 122 GFLOP/s in a 1024^3
// product; with OPENBLAS_CORETYPE=SkylakeX the same core reaches 235.

namespace imhotep::cli {

// Where that has happened, sets OPENBLAS_CORETYPE=SkylakeX and starts this program again, once.
// A value the user has set stays. Call first in main: nothing may be open or printed yet.
void choose_blas_kernels(char** argv);

}  // namespace imhotep::cli
