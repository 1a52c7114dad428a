#pragma once
// The texts of an exported folder. @NAME@ stands for a value; deploy.cpp says which.

namespace imhotep::planner {

inline constexpr const char* kEnvironment =
    R"sh(# What the ranks of this plan need. Sourced by the scripts; values that are set already stay.
# One thread a rank: ranks share the cores.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export OPENBLAS_NUM_THREADS="${OPENBLAS_NUM_THREADS:-1}"
# Open MPI in containers: no single-copy mechanism, which asks for rights that they withhold.
export OMPI_MCA_btl_vader_single_copy_mechanism="${OMPI_MCA_btl_vader_single_copy_mechanism:-none}"
export OMPI_MCA_mpi_yield_when_idle="${OMPI_MCA_mpi_yield_when_idle:-1}"
export OMPI_MCA_mca_base_component_show_load_errors="${OMPI_MCA_mca_base_component_show_load_errors:-0}"
export HWLOC_HIDE_ERRORS="${HWLOC_HIDE_ERRORS:-2}"
# The cluster that the plan was made for, beside this file.
export IMHOTEP_DATA="${IMHOTEP_DATA:-$here/data}"
)sh";

inline constexpr const char* kRunHead = R"sh(#!/usr/bin/env bash
# @TITLE@
# @USAGE@
# IMHOTEP names the program (default: imhotep of the PATH).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=environment
source "$here/environment"
imhotep=${IMHOTEP:-imhotep}
)sh";

inline constexpr const char* kTrainArguments = R"sh(data=${DATA:-$here/text}
out=${OUT:-$here/run}
task=(train "$here/plan.json" --data "$data" --out "$out" --steps "${STEPS:-20}" "$@")
)sh";

inline constexpr const char* kGenerateArguments = R"sh(if (( $# < 1 )); then
  echo "expected a run folder or a checkpoint of @MODEL@: ./run.sh RUN [options]" >&2
  exit 2
fi
task=(generate "$1" --plan "$here/plan.json" --prompt "${PROMPT:-In the beginning}"
      --max-tokens "${TOKENS:-@OUTPUT@}" "${@:2}")
)sh";

inline constexpr const char* kMpirun =
    R"sh(export OMPI_ALLOW_RUN_AS_ROOT="${OMPI_ALLOW_RUN_AS_ROOT:-1}"
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="${OMPI_ALLOW_RUN_AS_ROOT_CONFIRM:-1}"
ranks=(-n @WORLD@)
if [[ -n "${HOSTFILE:-}" ]]; then
  ranks+=(--hostfile "$HOSTFILE" --map-by "ppr:@PER_NODE@:node")
else
  export OMPI_MCA_rmaps_base_oversubscribe="${OMPI_MCA_rmaps_base_oversubscribe:-1}"
fi
exec mpirun "${ranks[@]}" "$imhotep" "${task[@]}"
)sh";

inline constexpr const char* kSlurm = R"sh(#!/usr/bin/env bash
#SBATCH --job-name=@NAME@
#SBATCH --nodes=@NODES@
#SBATCH --ntasks=@WORLD@
#SBATCH --ntasks-per-node=@PER_NODE@
#SBATCH --cpus-per-task=1
@GPU_LINE@#SBATCH --output=%x-%j.log
# @TITLE@
# sbatch job.sbatch, in this folder. IMHOTEP names the program, IMHOTEP_MPI the plug-in of srun.
set -euo pipefail
here=${SLURM_SUBMIT_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)}
# shellcheck source=environment
source "$here/environment"
imhotep=${IMHOTEP:-imhotep}
)sh";

inline constexpr const char* kSlurmRun =
    R"sh(srun --mpi="${IMHOTEP_MPI:-pmix}" "$imhotep" "${task[@]}"
)sh";

inline constexpr const char* kTrainBench = R"sh(#!/usr/bin/env bash
# Measures some steps and prints them beside expected.json, operation by operation.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=environment
source "$here/environment"
export OUT=${OUT:-$here/bench}
STEPS=${STEPS:-20} @START@ --overwrite
exec "${IMHOTEP:-imhotep}" compare "$OUT/report.json" --stored "$@"
)sh";

inline constexpr const char* kGenerateBench = R"sh(#!/usr/bin/env bash
# Measures one answer: prefill_us and token_us, to be compared with expected.json.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
@START@ "$@" --json
)sh";

inline constexpr const char* kDockerfile =
    R"docker(# Ranks of one machine: docker build -t @IMAGE@ . && docker run --rm -it --shm-size=1g @IMAGE@
# The program `imhotep` of this folder was built on Debian 12.
FROM debian:12-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      libboost-graph1.74.0 libfmt9 libopenblas0-serial libsentencepiece0 openmpi-bin \
      openssh-client openssh-server \
 && rm -rf /var/lib/apt/lists/* \
 && mkdir -p /run/sshd
COPY imhotep /usr/local/bin/imhotep
COPY . /plan
WORKDIR /plan
ENTRYPOINT ["/plan/run.sh"]
)docker";

inline constexpr const char* kKeys = R"sh(#!/usr/bin/env bash
# Makes the key with which the launcher reaches the workers; kustomization.yaml turns it into a
# secret. Once, before: kubectl apply -k .
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
[[ -f id_ed25519 ]] || ssh-keygen -q -t ed25519 -N "" -C @NAME@ -f id_ed25519
)sh";

inline constexpr const char* kLaunch = R"sh(#!/usr/bin/env bash
# Inside the cluster: a worker serves ssh; the launcher waits for all workers and starts the ranks.
set -euo pipefail
here=/plan
# shellcheck source=environment
source "$here/environment"
mkdir -p /root/.ssh /run/sshd
install -m 600 /keys/id_ed25519 /root/.ssh/id_ed25519
install -m 600 /keys/id_ed25519.pub /root/.ssh/authorized_keys
if [[ "${1:?launcher or worker}" == worker ]]; then
  ssh-keygen -A >/dev/null
  exec /usr/sbin/sshd -D -e -p 2222 -o StrictModes=no
fi
hosts=()
for (( i = @FIRST@; i < @NODES@ + @FIRST@; i++ )); do
  host=@HOST@
  until ssh -p 2222 -o StrictHostKeyChecking=no -o ConnectTimeout=2 "$host" true; do sleep 2; done
  hosts+=("$host:@PER_NODE@")
done
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
args=(-n @WORLD@ --host "$(IFS=,; echo "${hosts[*]}")"
      --mca plm_rsh_args "-p 2222 -o StrictHostKeyChecking=no"
      -x OMP_NUM_THREADS -x OPENBLAS_NUM_THREADS -x IMHOTEP_DATA)
exec mpirun "${args[@]}" imhotep @TASK@
)sh";

}  // namespace imhotep::planner
