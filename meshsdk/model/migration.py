"""The modes of the move from interface-level to application-level discovery. Imported by what applications import."""

from __future__ import annotations

import enum


class Migration(enum.Enum):
    """Which entries of a registry a consumer of a gRPC service uses (as in Dubbo 3).

    The service's own: instances registered under its name. Its applications': those of the applications that serve it.
    """

    FORCE_INTERFACE = "FORCE_INTERFACE"  # the service's own
    APPLICATION_FIRST = "APPLICATION_FIRST"  # its applications' while one of them can be called, else its own
    FORCE_APPLICATION = "FORCE_APPLICATION"  # its applications'
