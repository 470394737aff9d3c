#!/usr/bin/env bash
# Installs the real servers that the tests and benchmarks start, from Debian's packages, where they are missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/debian.sh

missing=()
command -v etcd >/dev/null || missing+=(etcd-server)
[ -e /usr/share/java/zookeeper.jar ] || missing+=(zookeeper)
[ ${#missing[@]} = 0 ] && exit 0
echo "installing real servers: ${missing[*]}"
debian "${missing[@]}"
