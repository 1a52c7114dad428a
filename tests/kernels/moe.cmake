# MoE kernels
imhotep_unit_test(moe_kernels_tests
  SOURCES dispatch_test.cpp grouped_gemm_test.cpp moe_row_test.cpp route_test.cpp
  LINK imhotep_kernels)
