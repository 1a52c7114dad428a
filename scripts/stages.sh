# shellcheck shell=bash
# Named stages with their times. Sourced by the other scripts, which run under set -euo pipefail.
STAGE_NAME=''
STAGE_TABLE=()
STAGE_START=0
STAGE_FIRST=$SECONDS

stage() {  # ends the stage before it
  stage_end
  STAGE_NAME=$1
  STAGE_START=$SECONDS
  printf '\n== %s\n' "$1"
}

stage_end() {
  [[ -z $STAGE_NAME ]] || STAGE_TABLE+=("$(printf '%5d s  %s' $((SECONDS - STAGE_START)) "$STAGE_NAME")")
  STAGE_NAME=''
}

stages_report() {
  stage_end
  printf '\nStages:\n'
  printf '  %s\n' "${STAGE_TABLE[@]}"
  printf '  %5d s  together\n' $((SECONDS - STAGE_FIRST))
}

# On exit: which stage failed, and after how long.
stages_on_exit() {
  local code=$?
  if (( code != 0 )) && [[ -n $STAGE_NAME ]]; then
    printf '\nFAILED: stage "%s" after %d s (exit code %d).\n' \
           "$STAGE_NAME" $((SECONDS - STAGE_START)) "$code" >&2
  fi
}
trap stages_on_exit EXIT
