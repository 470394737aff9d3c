"""Replaces a file that only this user may read, whole and at once. For the caches on disk of the layers above.

Processes, and meshes of one process, may share a directory: readers see the old content or the new, never a part.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from pathlib import Path

_numbers = itertools.count()  # its `next` is atomic


def replace_file(path: Path, parts: Iterable[bytes]) -> int:
    """Makes `parts` the content of `path` and returns its size in bytes; raises OSError."""
    temporary = path.with_suffix(f".{os.getpid()}-{next(_numbers)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(parts)
            size = file.tell()
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return size
