#!/usr/bin/env bash
# Starts a program as several ranks without MPI, the way torchrun does: tcp_ranks.sh N PROGRAM...
# Exit code: the largest of the ranks'.
set -euo pipefail

world=$1
shift
port=$((20000 + RANDOM % 12000))
while (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do port=$((20000 + RANDOM % 12000)); done
export WORLD_SIZE=$world LOCAL_WORLD_SIZE=$world MASTER_ADDR=127.0.0.1 MASTER_PORT=$port
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
pids=()
for ((r = 0; r < world; ++r)); do
  RANK=$r LOCAL_RANK=$r "$@" &
  pids+=($!)
done
worst=0
for pid in "${pids[@]}"; do
  code=0
  wait "$pid" || code=$?
  if [ "$code" -gt "$worst" ]; then worst=$code; fi
done
exit "$worst"
