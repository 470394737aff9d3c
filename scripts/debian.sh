# Sourced by the scripts that need Debian packages: `debian PACKAGE...` installs them, or says what to run where it may
# not. Services that a package starts are stopped again: tests start servers of their own.

fail() { echo "$0: $*" >&2; exit 1; }

debian() {
  command -v apt-get >/dev/null || fail "missing: $*. This is not Debian or Ubuntu: install it by hand, then run make again."
  local as=()
  if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || fail "missing: $*. Run: sudo apt-get install -y $*"
    as=(sudo -n)
  fi
  "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q >&2
  "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >&2
  local package service
  for package in "$@"; do
    for service in "$package" "${package%-server}"; do
      if [ -e "/etc/init.d/$service" ]; then
        "${as[@]}" service "$service" stop >&2 || true # not running is fine
        break
      fi
    done
  done
}
