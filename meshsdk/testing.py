"""For tests and demos: a control plane inside the process, with no files and no fixed ports.

    with meshsdk.testing.control_plane(YAML) as plane, plane.mesh(app="web") as mesh:
        channel = mesh.channel("xds:///orders")

The control plane (`controlplane.embedded`) is started by name; it needs `pip install meshsdk[controlplane]`.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from meshsdk.errors import ConfigurationError
from meshsdk.facade import Mesh

_nodes = itertools.count(1)


class ControlPlane:
    """A control plane that runs in this process. Usable from any thread."""

    def __init__(self, embedded: Any) -> None:
        """Wraps a running `controlplane.embedded.Embedded`."""
        self._embedded = embedded

    @property
    def address(self) -> str:
        """`HOST:PORT` of xDS and of the registration service."""
        address: str = self._embedded.xds_address
        return address

    def bootstrap(
        self,
        app: str = "",
        *,
        node: str | None = None,
        labels: Mapping[str, str] | None = None,
        section: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Returns a gRPC bootstrap for a client of this control plane.

        `app` is the calling application (what `sourceLabels: {app: ...}` matches), `node` an id of its own unless
        given, `section` the `meshsdk` section.
        """
        named = {"app": app} if app else {}
        return {
            "xds_servers": [
                {"server_uri": self.address, "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}
            ],
            "node": {
                "id": node or f"{app or 'test'}-{next(_nodes)}",
                "cluster": app or "test",
                "metadata": {"LABELS": {**named, **(labels or {})}},
            },
            **({"meshsdk": dict(section)} if section else {}),
        }

    def mesh(self, app: str = "", *, labels: Mapping[str, str] | None = None) -> Mesh:
        """Returns a mesh of the calling application `app`; close it, or use it as a context manager."""
        return Mesh(self.bootstrap(app, labels=labels))

    def apply(self, yaml: str) -> None:
        """Applies resources. Raises ConfigurationError with `file:line: path: what is wrong`; nothing changes then."""
        self._embedded.apply(yaml)

    def delete(self, kind: str, name: str) -> None:
        """Deletes an applied resource."""
        self._embedded.delete(kind, name)

    def stop(self) -> None:
        """Stops it. Idempotent."""
        self._embedded.stop()


@contextmanager
def control_plane(config: str | Path | None = None) -> Iterator[ControlPlane]:
    """Runs a control plane in this process. `config`: YAML text (with a line break), a file, or a directory to follow.

    Raises ConfigurationError for configuration that cannot be used, or where the extra is not installed.
    """
    try:
        embedded = importlib.import_module("controlplane.embedded")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the embedded control plane needs {error.name!r}: pip install 'meshsdk[controlplane]'"
        ) from error
    running = ControlPlane(embedded.start(config))
    try:
        yield running
    finally:
        running.stop()
