"""Where the processes of this user have their local sockets: `$MESHSDK_RUN_DIR`, private to the user.

Used by `local_socket` (a process) and by the commands that ask one. Sockets of dead processes are removed by both.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from meshsdk.errors import ConfigurationError

SUFFIX = ".sock"  # of services
ADMIN = ".admin"  # of processes with a mesh
_NAME = re.compile(r"([1-9][0-9]{0,9})-[0-9]{1,10}\.(?:sock|admin)")  # pid, number in the process
_MAX_PATH = 107  # bytes of sockaddr_un.sun_path on Linux, without the NUL


def run_directory(environ: Mapping[str, str]) -> Path:
    """Returns the directory: MESHSDK_RUN_DIR, else below XDG_RUNTIME_DIR, else /tmp/meshsdk-UID. Makes nothing."""
    if named := environ.get("MESHSDK_RUN_DIR"):
        return Path(named)
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "meshsdk"
    return Path(f"/tmp/meshsdk-{os.getuid()}")  # noqa: S108 - checked to be ours alone by `private`


def private(directory: Path) -> Path:
    """Makes the directory, if it is not there; raises ConfigurationError unless it is this user's alone."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{directory}: cannot be made: {error.strerror}; set MESHSDK_RUN_DIR") from None
    return checked_private(directory)


def checked_private(directory: Path) -> Path:
    """Returns a directory that is this user's alone, or not there at all. Raises ConfigurationError for another."""
    try:
        found = directory.lstat()
    except FileNotFoundError:
        return directory
    except OSError as error:
        raise ConfigurationError(f"{directory}: cannot be read: {error.strerror}; set MESHSDK_RUN_DIR") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigurationError(f"{directory}: must be a directory of this user, mode 0700; or set MESHSDK_RUN_DIR")
    return directory


def checked_length(path: Path) -> Path:
    """Returns a path that a Unix socket may have. Raises ConfigurationError."""
    if len(os.fsencode(path)) > _MAX_PATH:
        raise ConfigurationError(f"{path}: too long for a Unix socket; set MESHSDK_RUN_DIR to a shorter one")
    return path


def pid_of(path: Path) -> int:
    """Returns the process that a socket's name says it is of; 0 for another kind of name."""
    found = _NAME.fullmatch(path.name)
    return int(found[1]) if found else 0


def sockets(directory: Path, suffix: str = SUFFIX) -> list[Path]:
    """Lists the sockets of this user in the directory that have a name of ours; everything else there is ignored."""
    return [path for path in sorted(directory.glob(f"*{suffix}")) if _is_ours(path)] if directory.is_dir() else []


def remove_dead(path: Path) -> None:
    """Removes a socket that nobody listens on, if it is still one of ours."""
    if _is_ours(path):
        with contextlib.suppress(OSError):  # another process was quicker
            path.unlink()


def living(directory: Path, timeout: float, suffix: str = SUFFIX) -> list[tuple[Path, socket.socket]]:
    """Connects to every socket in the directory and removes those that nobody listens on. The caller closes them."""
    found = []
    for path in sockets(directory, suffix):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout)
        try:
            connection.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            connection.close()
            remove_dead(path)
        except OSError:  # busy, or not ours: leave it alone
            connection.close()
        else:
            found.append((path, connection))
    return found


def _is_ours(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return pid_of(path) > 0 and stat.S_ISSOCK(found.st_mode) and found.st_uid == os.getuid()
