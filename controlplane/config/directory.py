"""Reads the YAML files of a configuration directory, and tells whether they changed. Called by the plane.

Change is seen by looking, not by inotify: the same on every file system, network mounts and ConfigMap links included.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from controlplane.config.documents import Documents, parse
from controlplane.config.problems import Problem
from controlplane.config.tree import MAX_BYTES
from controlplane.model.identity import Origin
from meshsdk.errors import ConfigurationError

MAX_FILES = 10_000
Fingerprint = tuple[tuple[str, int, int, int], ...]


def _files(directory: Path) -> Iterator[os.DirEntry[str]]:
    """Yields the `.yaml` and `.yml` files right in `directory`, by name. Names that start with a dot are skipped."""
    try:
        with os.scandir(directory) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise ConfigurationError(f"cannot read the configuration directory {directory}: {error.strerror}") from None
    names = [entry for entry in entries if entry.name.endswith((".yaml", ".yml")) and not entry.name.startswith(".")]
    if len(names) > MAX_FILES:
        raise ConfigurationError(f"the configuration directory {directory} has more than {MAX_FILES} YAML files")
    for entry in names:
        if entry.is_file():
            yield entry


def fingerprint(directory: Path) -> Fingerprint:
    """Returns (name, modified, size, inode) of every file: differs whenever the files may have changed.

    Raises ConfigurationError where the directory cannot be read.
    """
    found = []
    for entry in _files(directory):
        try:
            stat = Path(entry.path).stat()
        except FileNotFoundError:
            continue  # went away since it was listed: the next look sees a directory without it
        found.append((entry.name, stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(found)


def load(directory: Path) -> Documents:
    """Reads every file. A file that cannot be read is a problem as its content would be.

    Raises ConfigurationError where the directory itself cannot be read.
    """
    documents = Documents()
    for entry in _files(directory):
        documents += load_file(Path(entry.path))
    return documents


def load_file(path: Path) -> Documents:
    """Reads one file."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            return Documents(problems=(Problem(Origin(str(path), 1), f"larger than {MAX_BYTES} bytes"),))
        return parse(raw.decode("utf-8"), str(path))
    except OSError as error:
        return Documents(problems=(Problem(Origin(str(path), 1), f"cannot be read: {error.strerror}"),))
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        return Documents(problems=(Problem(Origin(str(path), line), "is not UTF-8"),))
