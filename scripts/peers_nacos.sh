#!/usr/bin/env bash
# Gets, into .cache/peers, what the Nacos tests of `make test-peers` start: a real Nacos server out of its modules on
# Maven Central (tests/servers/nacos_server), and the official Python SDK in an environment of its own, as a foreign
# client. Needs a JDK of 17 or later and Maven.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/debian.sh

source=tests/servers/nacos_server
target=$PWD/.cache/peers/nacos
stamp=$(cat "$source"/* | sha256sum)
if [ "$(cat "$target/stamp" 2>/dev/null)" != "$stamp" ]; then
  command -v javac >/dev/null || debian openjdk-17-jdk-headless
  command -v mvn >/dev/null || debian maven
  echo "getting Nacos into $target"
  mkdir -p "$target"
  mvn --batch-mode --quiet -Dmaven.repo.local="$PWD/.cache/peers/m2" -f "$source/pom.xml" \
    dependency:build-classpath -Dmdep.outputFile="$target/classpath"
  javac -cp "$(cat "$target/classpath")" -d "$target" "$source/NacosServer.java"
  echo "$stamp" >"$target/stamp"
fi

sdk=$PWD/.cache/peers/nacos-sdk
want='nacos-sdk-python==3.2.0'
if [ "$(cat "$sdk/installed" 2>/dev/null)" != "$want" ]; then
  echo "installing $want into $sdk"
  "${PYTHON:-python3}" -m venv --clear "$sdk"
  "$sdk/bin/python" -m pip install --quiet --disable-pip-version-check "$want"
  echo "$want" >"$sdk/installed"
fi
