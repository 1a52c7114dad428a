#!/usr/bin/env bash
# Runs openai_client.py in a virtual environment of the build folder, made at first need.
# usage: openai_client.sh BUILD_FOLDER IMHOTEP MODEL   exit 77: a package cannot be had here
set -euo pipefail
environment=$1/openai-client
if ! "$environment/bin/python" -c "import openai, prometheus_client" 2>/dev/null; then
  python3 -m venv "$environment" 2>/dev/null || exit 77
  "$environment/bin/pip" --quiet --disable-pip-version-check install "openai>=1,<4" \
    "prometheus-client<1" || exit 77
fi
exec "$environment/bin/python" "$(dirname "$0")/openai_client.py" "$2" "$3"
