imhotep_unit_test(generate_tests
  SOURCES generate/generator_test.cpp generate/lowering_test.cpp generate/page_table_test.cpp
  LINK imhotep_runtime)
imhotep_mpi_test(generate_mpi_tests 4
  SOURCES generate/lowered_ranks_test.cpp generate/sampling_plans_test.cpp
  LINK imhotep_runtime)
imhotep_alone(generate/lowering_test.cpp)
