"""The shared memory that an Envoy which takes over expects of the one before it (Envoy's `SharedMemory`, version 11).

Made by `socket_keeper` before each start, so that no Envoy depends on what another left there. Holds two locks that
serialize log lines between processes, and a flag. Linux, C library of this process.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import struct
from pathlib import Path

from meshsdk.errors import ConfigurationError

_FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is on Linux; names are claimed exclusively
_PROTOCOL = 11
_HEAD = struct.Struct("=QQ")  # size, version
_TAIL = 8  # bytes of flags after the locks
_SIZES = range(_HEAD.size + 2 * 24 + _TAIL, 512, 16)  # bytes; a lock takes 24 to 200, in steps of 8
_SHARED, _ROBUST = 1, 1  # PTHREAD_PROCESS_SHARED, PTHREAD_MUTEX_ROBUST
_ATTRIBUTES = 64  # bytes; more than any C library's pthread_mutexattr_t


def segment_size(version: str) -> int:
    """Reads what `envoy --hot-restart-version` prints, such as `11.104`: the size in bytes.

    Raises ConfigurationError where that Envoy speaks another hot-restart protocol than this shim.
    """
    protocol, _, size = version.strip().partition(".")
    fits = size.isascii() and size.isdigit() and int(size) in _SIZES
    if protocol != str(_PROTOCOL) or not fits:
        raise ConfigurationError(
            f"its hot-restart version is {version.strip()[:40]!r} and this shim hands sockets to Envoys of version "
            f"{_PROTOCOL} only: start the shim anew with that Envoy"
        )
    return int(size)


def create_segment(base_id: int, size: int) -> bool:
    """Makes the segment of `base_id`; returns False if that is taken. Raises ConfigurationError where none can be."""
    path = segment_path(base_id)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    except OSError as error:
        raise ConfigurationError(f"an Envoy needs shared memory: cannot create {path}: {error.strerror}") from None
    try:
        os.ftruncate(descriptor, size)
        with mmap.mmap(descriptor, size) as memory:
            _HEAD.pack_into(memory, 0, size, _PROTOCOL)
            _make_locks(memory, size)
    except BaseException:
        remove_segment(base_id)
        raise
    finally:
        os.close(descriptor)
    return True


def remove_segment(base_id: int) -> None:
    """Removes it; those who have it mapped keep it."""
    with contextlib.suppress(FileNotFoundError):
        segment_path(base_id).unlink()


def segment_path(base_id: int) -> Path:
    """Returns its file. Envoy multiplies the id by ten."""
    return _FOLDER / f"envoy_shared_memory_{base_id * 10}"


def _make_locks(memory: mmap.mmap, size: int) -> None:
    library = ctypes.CDLL(None)
    attributes = ctypes.create_string_buffer(_ATTRIBUTES)
    library.pthread_mutexattr_init(attributes)
    library.pthread_mutexattr_setpshared(attributes, _SHARED)
    library.pthread_mutexattr_setrobust(attributes, _ROBUST)
    image = (ctypes.c_char * size).from_buffer(memory)
    lock = (size - _HEAD.size - _TAIL) // 2
    for at in (_HEAD.size, _HEAD.size + lock):
        if library.pthread_mutex_init(ctypes.byref(image, at), attributes) != 0:
            raise ConfigurationError("this machine's C library has no locks that processes can share")
    library.pthread_mutexattr_destroy(attributes)
    del image  # or the mapping cannot be closed
