# Training: gradients, programs against their runs, memory, runs from text to checkpoint.
imhotep_unit_test(training_tests
  SOURCES training/gradient_test.cpp
  LINK imhotep_runtime)

imhotep_mpi_test(training_mpi_tests 8
  SOURCES plans/plan_cover.cpp training/plan_gradients_test.cpp training/whole_tensors.cpp
  LINK imhotep_runtime)
