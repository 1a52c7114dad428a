imhotep_unit_test(serve_tests
  SOURCES serve/answer_text_test.cpp serve/api_answer_test.cpp serve/chat_template_test.cpp
          serve/engine_test.cpp serve/http_test.cpp serve/hugging_face_files.cpp
          serve/hugging_face_test.cpp serve/live_server.cpp serve/metrics_test.cpp
          serve/serving.cpp
  LINK imhotep_serve)
imhotep_mpi_test(serve_mpi_tests 8
  SOURCES serve/plans_mpi_test.cpp serve/serving.cpp plans/plan_cover.cpp
  LINK imhotep_serve)
# The official client; skipped where PyPI cannot be reached.
add_test(NAME openai_client
         COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/serve/openai_client.sh ${CMAKE_BINARY_DIR}
                 $<TARGET_FILE:imhotep> nano-pr-moe-2-8)
set_tests_properties(openai_client PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300)
# Somebody else's folder, and its words by plain arithmetic.
add_test(NAME hugging_face_folder
         COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/serve/hugging_face.py $<TARGET_FILE:imhotep>
                 ${CMAKE_SOURCE_DIR}/tests/data/tokenizers/gpt2.json)
set_tests_properties(hugging_face_folder PROPERTIES TIMEOUT 120)
imhotep_unit_test(serve_rank_tests
  SOURCES serve/live_server.cpp serve/ranks_test.cpp serve/serving.cpp
  LINK imhotep_serve)
target_compile_definitions(serve_rank_tests PRIVATE IMHOTEP_BUILT_PROGRAM="$<TARGET_FILE:imhotep>")
add_dependencies(serve_rank_tests imhotep)
set_tests_properties(serve_rank_tests PROPERTIES TIMEOUT 120 RUN_SERIAL ON)
set_property(TEST serve_rank_tests APPEND PROPERTY ENVIRONMENT "ASAN_OPTIONS=detect_leaks=0")
