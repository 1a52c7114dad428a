# shellcheck shell=bash
# What scripts/gpu-test --bench measures on two GPUs, beside one of them in the same run; `run` is
# defined there. B counts all ranks; KV 512, uniform routing.
m=1.3b-pr-moe-64-128
# Exchange, sum and large exchange: one operation, 48 or more of them in a graph.
run ranks-gather-1 decode $m --batch 2 --context 512 --ranks 2 --fix expert=2 --only gather_block
run ranks-gather-64 decode $m --batch 128 --context 512 --ranks 2 --fix expert=2 --only gather_block
run ranks-scatter-1 decode $m --batch 2 --context 512 --ranks 2 --fix expert=2 --only scatter_block
run ranks-scatter-64 decode $m --batch 128 --context 512 --ranks 2 --fix expert=2 --only scatter_block
run ranks-sum-1 decode $m --batch 1 --context 512 --ranks 2 --fix tensor=2,expert=1,slicing=2 --only projection_sum
run ranks-dispatch-2 layer 350m-pr-moe-32-64 --capacity none --hidden 2048 --experts 64 --batch 4 --ranks 2 --fix expert=2 --only dispatch
run ranks-dispatch-128 layer 350m-pr-moe-32-64 --capacity none --hidden 2048 --experts 64 --batch 256 --ranks 2 --fix expert=2 --only dispatch
run ranks-dispatch-32mib layer 350m-pr-moe-32-64 --capacity none --hidden 2048 --experts 64 --batch 32768 --ranks 2 --fix expert=2 --only dispatch
run ranks-combine-32mib layer 350m-pr-moe-32-64 --capacity none --hidden 2048 --experts 64 --batch 32768 --ranks 2 --fix expert=2 --only combine
for batch in 32 64; do
  run "one-decode-1.3b-pr-b$batch" decode $m --batch "$batch" --context 512 --routing uniform --repeats 20
  run "ranks-decode-1.3b-pr-b$batch" decode $m --batch "$batch" --context 512 --routing uniform --ranks 2 --fix expert=2 --repeats 20
done
for model in $m 350m-pr-moe-32-64; do
  run "one-decode-$model-b1" decode "$model" --batch 1 --context 512 --routing uniform --repeats 20
  run "ranks-decode-$model-b1-sliced" decode "$model" --batch 1 --context 512 --routing uniform --ranks 2 --fix tensor=2,expert=1,slicing=2 --repeats 20
done
run one-training-350m-pr training 350m-pr-moe-32-64 --batch 8 --sequence 1024 --capacity none --repeats 8
run ranks-training-350m-pr-16 training 350m-pr-moe-32-64 --batch 16 --sequence 1024 --capacity none --ranks 2 --fix expert=2 --repeats 8
run ranks-training-350m-pr-8 training 350m-pr-moe-32-64 --batch 8 --sequence 1024 --capacity none --ranks 2 --fix expert=2 --repeats 8
