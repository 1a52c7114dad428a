# shellcheck shell=bash
# What scripts/gpu-test --bench measures; `run` is defined there.
for batch in 1 8 64; do
  run "decode-350m-pr-b$batch" decode 350m-pr-moe-32-64 --batch "$batch" --context 512 --routing uniform
done
for pair in "1024 32" "2048 64" "2048 128"; do
  read -r hidden experts <<<"$pair"
  run "layer-$hidden-$experts" layer 350m-pr-moe-32-64 --capacity none --hidden "$hidden" --experts "$experts"
  run "layer-$hidden-$experts-backward" layer 350m-pr-moe-32-64 --capacity none --hidden "$hidden" \
    --experts "$experts" --backward
done
run load-350m-pr load 350m-pr-moe-32-64
run gate-64 gate 350m-pr-moe-32-64 --batch 64 --experts 64
run gate-16384 gate 350m-pr-moe-32-64 --batch 16384 --experts 64
run optimizer-350m optimizer 350m
run training-350m training 350m --batch 16 --sequence 1024
run training-124m-pr training 124m-pr-moe-4-8 --batch 16 --sequence 1024 --capacity none
run training-350m-pr training 350m-pr-moe-32-64 --batch 8 --sequence 1024 --capacity none --repeats 10
for batch in 1 8 64; do
  run "decode-1.3b-pr-b$batch" decode 1.3b-pr-moe-64-128 --batch "$batch" --context 512 \
    --routing uniform
done
