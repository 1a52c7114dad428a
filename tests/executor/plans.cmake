imhotep_mpi_test(plans_tests "8;16"
  SOURCES plans/plan_cover.cpp plans/plans_test.cpp
  LINK imhotep_runtime
  TIMEOUT 300)
