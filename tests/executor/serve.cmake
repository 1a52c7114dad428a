imhotep_unit_test(serve_tests
  SOURCES serve/answer_text_test.cpp serve/engine_test.cpp serve/serving.cpp
  LINK imhotep_serve)
imhotep_mpi_test(serve_mpi_tests 8
  SOURCES serve/plans_mpi_test.cpp serve/serving.cpp plans/plan_cover.cpp
  LINK imhotep_serve)
