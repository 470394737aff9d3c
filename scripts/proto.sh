#!/usr/bin/env bash
# Generates the Python code of every .proto beside it. Generated code refuses to run with a grpcio or protobuf older
# than its generator, so the generator is the oldest release the project supports (pyproject.toml: grpcio>=1.80).
# Usage: PYTHON=python3 scripts/proto.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=1.80.0
venv=.venv-proto
if ! "$venv/bin/python" -c "import importlib.metadata as m, sys; sys.exit(m.version('grpcio-tools') != '$version')" 2>/dev/null; then
  "${PYTHON:-python3}" -m venv --clear "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "grpcio-tools==$version" "grpcio==$version"
fi

# Everything is imported from the root of the tree, so names start there.
find meshsdk controlplane tests examples benchmarks -name '*.proto' -not -path '*/node_modules/*' | sort | while read -r proto; do
  outputs=(--python_out=. --pyi_out=.)
  if grep -q '^service ' "$proto"; then outputs+=(--grpc_python_out=.); fi
  echo "$proto"
  "$venv/bin/python" -m grpc_tools.protoc -I . "${outputs[@]}" "$proto"
done
