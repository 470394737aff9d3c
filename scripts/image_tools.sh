#!/usr/bin/env bash
# Installs what builds and checks the shim's root file system, from Debian's packages, where missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/debian.sh

missing=()
[ -x /usr/sbin/debootstrap ] || missing+=(debootstrap)
[ -x /usr/sbin/getcap ] || missing+=(libcap2-bin)
[ ${#missing[@]} = 0 ] || debian "${missing[@]}"
