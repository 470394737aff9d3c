"""The configuration directory as a source: tells when it has a new state. Called by `configured`, under its lock."""

from __future__ import annotations

from pathlib import Path

from controlplane.config.directory import Fingerprint, fingerprint, load
from controlplane.config.documents import Documents
from meshsdk.errors import ConfigurationError


class Files:
    """Follows `directory`. Guarded by the plane's lock."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._seen: Fingerprint | None = None  # of the files that were read last
        self._settling: Fingerprint | None = None  # seen once since: read when it is seen again

    def begin(self) -> Documents:
        """Reads the files for the first time. Raises ConfigurationError where the directory cannot be read."""
        self._seen = fingerprint(self.directory)
        return load(self.directory)

    def look(self) -> Documents | None:
        """Reads the files again if they changed; returns None if not.

        Files are read once two looks in a row see them alike: an editor may empty a file before it writes it.

        Raises:
            ConfigurationError: the directory cannot be read. Once it can, its files count as changed.
        """
        try:
            seen = fingerprint(self.directory)
            settled, self._settling = seen == self._settling, seen
            if seen == self._seen or not settled:
                return None
            found = load(self.directory)
        except ConfigurationError:
            self._seen, self._settling = None, None
            raise
        self._seen = seen
        return found
