# MoE kernels
imhotep_unit_test(moe_kernels_tests
  SOURCES dispatch_test.cpp grouped_gemm_test.cpp moe_row_test.cpp route_test.cpp
  LINK imhotep_kernels)

# Cases made by the reference implementation; IMHOTEP_GOLDEN_DIR names another folder of them.
imhotep_unit_test(golden_tests
  SOURCES golden_distillation.cpp golden_layer.cpp golden_layer_read.cpp golden_routing.cpp
          golden_test.cpp
  LINK imhotep_kernels nlohmann_json::nlohmann_json)
