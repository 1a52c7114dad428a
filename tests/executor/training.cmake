# Training: gradients, programs against their runs, memory, runs from text to checkpoint.
imhotep_unit_test(training_tests
  SOURCES training/gradient_test.cpp
  LINK imhotep_runtime)
