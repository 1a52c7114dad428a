# shellcheck shell=bash
# What scripts/gpu-test and scripts/gpu-serve set up to run a build or a packed folder, $build. Ends
# with 5 where there is no GPU.
build=${build:?a build or a packed folder}
if [[ -d $build/models ]]; then export IMHOTEP_DATA=$build; fi
export LD_LIBRARY_PATH=$build:$build/kernels${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
# Python's CUDA libraries are often newer than the system's; they come first.
for folder in cudnn cublas nccl; do
  for place in /opt/torch/.venv /usr /usr/local; do
    for wheel in "$place"/lib/python3*/{site,dist}-packages/nvidia/{"$folder",cu13}/lib; do
      if [[ -d $wheel ]]; then LD_LIBRARY_PATH=$wheel:$LD_LIBRARY_PATH; fi
    done
  done
done
export OPENBLAS_NUM_THREADS=1
command -v nvidia-smi >/dev/null || { echo "$(basename "$0"): no GPU (nvidia-smi is missing)" >&2; exit 5; }
