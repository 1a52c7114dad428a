imhotep_unit_test(data_tests
  SOURCES data/byte_bpe_test.cpp data/corpus_test.cpp data/sampler_test.cpp data/token_file_test.cpp
          data/tokenizer_test.cpp
  LINK imhotep_data)
imhotep_unit_test(checkpoint_tests
  SOURCES checkpoint/checkpoint_test.cpp checkpoint/damage_test.cpp checkpoint/piece_stream_test.cpp
          checkpoint/safetensors_test.cpp
  LINK imhotep_checkpoint)
