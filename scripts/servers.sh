#!/usr/bin/env bash
# Installs the real servers and tools that the tests and benchmarks start, from Debian's packages, where missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/debian.sh

missing=()
command -v etcd >/dev/null || missing+=(etcd-server)
[ -e /usr/share/java/zookeeper.jar ] || missing+=(zookeeper)
command -v ip >/dev/null || missing+=(iproute2) # namespaces in which the shim's interception is tried
[ -x /usr/sbin/nft ] || missing+=(nftables)
command -v redis-server >/dev/null || missing+=(redis-server)
command -v promtool >/dev/null || missing+=(prometheus)
[ -x /usr/sbin/iptables-legacy ] || missing+=(iptables)
[ ${#missing[@]} = 0 ] && exit 0
echo "installing real servers: ${missing[*]}"
debian "${missing[@]}"
