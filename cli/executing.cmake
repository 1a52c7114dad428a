# Commands that run programs: they need the executor.
target_sources(imhotep_cli PRIVATE
  bench.cpp bench_report.cpp bench_serve.cpp calibrate.cpp calibration_file.cpp compare.cpp
  comparison_picture.cpp evaluate.cpp generate.cpp local_gpu.cpp prediction.cpp ranks.cpp refit.cpp
  run.cpp serve.cpp serve_folder.cpp train.cpp validate.cpp)
target_link_libraries(imhotep_cli PUBLIC imhotep_bench imhotep_calibrate imhotep_runtime imhotep_serve imhotep_traffic imhotep_planner)
