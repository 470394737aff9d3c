#!/usr/bin/env bash
# Makes the virtual environment $VENV and installs the project (editable) with what one make target needs.
# Usage: PYTHON=python3 VENV=.venv scripts/venv.sh demo|lint|test|bench
# Does nothing when pyproject.toml, this script and the interpreter are as at the last run for that target.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=$1
python=${PYTHON:-python3}
venv=${VENV:-.venv}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

source scripts/debian.sh

command -v "$python" >/dev/null || debian python3 python3-venv
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
  fail "$python is $("$python" -V 2>&1); meshsdk needs Python 3.10 or later. Name one: make $target PYTHON=python3.12"
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  debian "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
fi

stamp="$venv/.installed-$target"
want="$(cat pyproject.toml scripts/venv.sh | sha256sum) $("$python" -VV | tr '\n' ' ') $PWD"
if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then
  exit 0
fi

if [ ! -x "$venv/bin/python" ]; then
  echo "make $target: creating $venv with $("$python" -V)"
  "$python" -m venv "$venv"
fi
"$venv/bin/python" -c 'import pip, sys; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) < (25, 1))' ||
  "$venv/bin/python" -m pip install --quiet 'pip>=25.1' # the first that reads dependency groups

echo "make $target: installing into $venv"
packages=(-e '.[controlplane,etcd,consul,zookeeper,nacos,kubernetes,re2,hash,shim,admin,redis,prometheus,b3,otlp]')
[ "$target" = demo ] || packages+=(--group "$target")
"$venv/bin/python" -m pip install --quiet "${packages[@]}"
echo "$want" >"$stamp"
