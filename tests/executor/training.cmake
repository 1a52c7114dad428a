# Training: gradients, programs against their runs, memory, runs from text to checkpoint.
imhotep_unit_test(training_tests
  SOURCES training/gradient_test.cpp training/loss_picture_test.cpp training/not_finite_test.cpp
          training/refusal_of_devices_test.cpp training/resume_test.cpp
          training/run_refusal_test.cpp training/schedule_test.cpp training/step_times_test.cpp
  LINK imhotep_runtime)

set_tests_properties(training_tests PROPERTIES COST 20)
# Sanitizers bring memory of their own.
if(NOT IMHOTEP_SANITIZE)
  imhotep_unit_test(allocation_tests SOURCES training/allocation_test.cpp LINK imhotep_runtime)
  imhotep_unit_test(resident_tests SOURCES training/resident_test.cpp LINK imhotep_runtime)
  set_tests_properties(resident_tests PROPERTIES COST 40)
endif()

imhotep_mpi_test(training_mpi_tests 8
  SOURCES plans/plan_cover.cpp training/lifetime_test.cpp training/plan_checkpoint_test.cpp
          training/plan_gradients_test.cpp training/replay_test.cpp training/trace_test.cpp
          training/whole_tensors.cpp
  LINK imhotep_runtime)
imhotep_mpi_test(run_mpi_tests 4
  SOURCES training/idle_rank_test.cpp training/run_plans_test.cpp
  LINK imhotep_runtime)
imhotep_alone(training/plan_gradients_test.cpp)
