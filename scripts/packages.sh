# shellcheck shell=bash
# The Debian and Ubuntu packages of the project, by purpose, and how to get those that are missing.
# Sourced by the other scripts. Names are the same on Debian 12 and on Ubuntu 24.04.

packages_for() {  # build | run | text | test | gui | ci
  case "$1" in
    build) echo "g++ cmake ninja-build pkg-config libboost-graph-dev libfmt-dev" \
                "libeigen3-dev nlohmann-json3-dev libvalijson-dev libcli11-dev" \
                "libopenblas-serial-dev libopenmpi-dev libsentencepiece-dev libpcre2-dev" ;;
    run) echo "openmpi-bin" ;;
    text) echo "bible-kjv wordnet-base" ;;
    test) echo "doctest-dev libbenchmark-dev ccache python3-venv" ;;
    # The window alone; nothing else needs Qt. Without fonts its pictures hold no text.
    gui) echo "qt6-base-dev qt6-svg-dev libqcustomplot-dev fonts-dejavu-core xvfb xauth" ;;
    # Versions by name: each version of clang-format formats a little differently, and clang-tidy
    # before 16 stumbles over C++20.
    ci) echo "clang-format-14 clang-tidy-16 shellcheck git python3-pip" ;;  # pip: cmake/cudnn_frontend.cmake
    *) echo "packages_for: expected build, run, text, test, gui or ci, got \"$1\"" >&2; return 2 ;;
  esac
}

packages_missing() {  # package names -> those that are not installed, one a line
  local name
  for name in "$@"; do
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || echo "$name"
  done
}

# Installs what is missing for the given purposes; without root when nothing is missing.
packages_install() {
  command -v dpkg-query >/dev/null || {
    echo "This script installs Debian packages, and dpkg-query was not found: on another system" \
         "install the counterparts of: $(for p in "$@"; do packages_for "$p"; done | xargs)" >&2
    return 5
  }
  local names missing as_root=()
  names=$(for purpose in "$@"; do packages_for "$purpose"; done)
  # shellcheck disable=SC2086  # package names hold no spaces
  mapfile -t missing < <(packages_missing $names)
  if (( ${#missing[@]} == 0 )); then
    echo "All packages are installed already."
    return 0
  fi
  echo "Installing ${#missing[@]} packages: ${missing[*]}"
  if (( EUID != 0 )); then
    command -v sudo >/dev/null || {
      echo "Installing needs root, and sudo was not found. As root, run:" >&2
      echo "  apt-get update && apt-get install --no-install-recommends ${missing[*]}" >&2
      return 5
    }
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get -qq update
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq -y -o Dpkg::Use-Pty=0 install --no-install-recommends "${missing[@]}" |
    awk '/^Setting up/ {n++} END {printf "Installed %d packages, dependencies included.\n", n}'
}
