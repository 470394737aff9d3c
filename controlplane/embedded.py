"""A control plane inside this process: no files, no fixed ports. For tests, demos, and one machine.

    with embedded.start("orders.yaml") as mesh:
        channel = grpc.insecure_channel(mesh.xds_address)

Started by name by `meshsdk.testing`; needs the extra `controlplane`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from controlplane import health
from controlplane.assembly import ControlPlane, Options
from controlplane.configured import Applied
from controlplane.model.identity import ResourceId, ResourceKind
from controlplane.server.status import ClientInfo
from controlplane.snapshot import ResourceCache
from controlplane.translate.describe import Row
from meshsdk.errors import ConfigurationError

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11


class Embedded:
    """A running control plane. Usable from any thread; a context manager that stops it."""

    def __init__(self, running: ControlPlane) -> None:
        self._running = running

    @property
    def xds_address(self) -> str:
        """`HOST:PORT` of xDS and of the registration service."""
        return self._running.xds_address

    @property
    def admin_address(self) -> str | None:
        """`HOST:PORT` of the admin interface; None without one."""
        return self._running.admin_address

    @property
    def cache(self) -> ResourceCache:
        """What is served. Resources set here by hand are replaced at the next change of configuration."""
        return self._running.plane.cache

    def bootstrap(self, node: str = "embedded", labels: dict[str, str] | None = None) -> dict[str, object]:
        """Returns a gRPC bootstrap (JSON-like) that points at this control plane."""
        return {
            "xds_servers": [
                {
                    "server_uri": self.xds_address,
                    "channel_creds": [{"type": "insecure"}],
                    "server_features": ["xds_v3"],
                }
            ],
            "node": {"id": node, "metadata": {"LABELS": labels or {}}},
        }

    def apply(self, text: str, file: str = "(applied)") -> list[Applied]:
        """Applies YAML. Raises ConfigurationRefused with `file:line: path: what` for each finding."""
        return self._running.plane.apply(text, file)[0]

    def delete(self, kind: str, name: str, namespace: str = "default") -> None:
        """Deletes an applied resource. Raises ConfigurationError; ValueError for an unknown kind."""
        self._running.plane.delete(ResourceId(ResourceKind(kind), namespace, name))

    def endpoints(self, host: str) -> list[Row]:
        """Returns the endpoints of a service as published."""
        return self._running.plane.endpoints(host)

    def status(self) -> dict[str, object]:
        """Returns counts, problems and warnings, as `meshctl status` shows them."""
        return health.status(self._running.plane)

    def warnings(self) -> list[str]:
        """Returns what is accepted and has no effect."""
        return list(health.warnings(self._running.plane))

    def clients(self) -> tuple[ClientInfo, ...]:
        """Returns the open xDS streams."""
        return self._running.clients()

    def stop(self, grace: float = 0.2) -> None:
        """Stops it; calls under way have `grace` seconds. Idempotent."""
        self._running.stop(grace)

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops it."""
        self.stop()


def start(
    config: str | Path | None = None,
    xds: str = "127.0.0.1:0",
    admin: str | None = None,
    store: str = "memory",
    registries: Sequence[str] = (),
    patience: float | None = 3.0,
) -> Embedded:
    """Starts a control plane in this process.

    Args:
        config: a directory to follow, a file to apply once, or YAML text (anything with a line break); None for none.
        xds: where xDS and registration listen; port 0 for any free one.
        admin: the same for the admin interface; None for none.
        store: `memory`, `sqlite:PATH` or `etcd://HOST:PORT`.
        registries: `NAME=URL` of registries to follow.
        patience: seconds to wait for them before xDS is answered without those that are away; None for no limit.

    Raises:
        ConfigurationError: the configuration or an address cannot be used.
        StoreError: the store cannot be opened.
    """
    path = None if config is None or (isinstance(config, str) and "\n" in config) else Path(config)
    directory = path if path is not None and path.is_dir() else None
    running = ControlPlane(Options(directory, store, xds, admin, tuple(registries), patience=patience))
    try:
        if path is not None and directory is None:
            running.plane.apply(_text(path), str(path))
        elif config is not None and path is None:
            running.plane.apply(str(config), "(embedded)")
        running.start()
    except BaseException:
        running.stop(0)
        raise
    return Embedded(running)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the configuration {path} cannot be read: {error}") from None
