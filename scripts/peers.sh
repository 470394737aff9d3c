#!/usr/bin/env bash
# Builds, into .cache/peers, the real servers that `make test-peers` starts and that no package registry has ready-made:
# Nacos (peers_nacos.sh); Consul, from its Go module (MPL 2.0). Needs Go and the Go module proxy; takes some minutes, once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/debian.sh
scripts/peers_nacos.sh

# The newest version of which the proxy has every requirement: Consul's main module asks for its own submodules by
# relative paths, which a module cannot have; 1.14.4 builds with the published versions of them that it names as well.
version=v1.14.4
target=$PWD/.cache/peers/consul

if [ -x "$target" ] && "$target" version | grep -q "^Consul $version$"; then
  exit 0
fi
command -v go >/dev/null || fail "missing: go 1.20 or later, to build Consul for the tests marked \`peers\`"

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
echo "building Consul $version into $target"
export GOFLAGS=-mod=mod
folder=$(cd "$work" && go mod download -json "github.com/hashicorp/consul@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
[ -n "$folder" ] || fail "the Go module proxy gave no Consul $version"
cp -R "$folder" "$work/consul"
chmod -R u+w "$work/consul"
cd "$work/consul"
for part in api sdk proto-public; do
  go mod edit -dropreplace "github.com/hashicorp/consul/$part"
done
mkdir -p "$(dirname "$target")"
go build -trimpath -ldflags '-s -w' -o "$target" .
