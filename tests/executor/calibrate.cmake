imhotep_unit_test(calibrate_tests
  SOURCES calibrate/calibrate_test.cpp
  LINK imhotep_calibrate)
