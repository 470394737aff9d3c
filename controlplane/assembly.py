"""A whole control plane in one object: plane, xDS server with registration, admin interface, keeper.

Made by `meshctl serve` and by `embedded`. The one place that knows all of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from controlplane.admin.address import split_address
from controlplane.admin.api import Api
from controlplane.admin.server import AdminServer
from controlplane.keeper import Keeper
from controlplane.plane import Plane
from controlplane.registries.service import RegistrationService
from controlplane.server.service import XdsServer
from controlplane.server.status import ClientInfo
from controlplane.store.open import open_store


class ControlPlane:
    """Runs from `start` to `stop`. Owned by one thread; `plane` may be used from any.

    Args:
        directory: YAML files to follow, or None.
        store: `memory` or `sqlite:PATH`.
        xds: `HOST:PORT` of xDS and registration; port 0 for any.
        admin: the same for the admin interface; None for none.

    Raises:
        ConfigurationError: files or addresses cannot be used.
        StoreError: the store cannot be opened.
    """

    def __init__(
        self, directory: Path | None = None, store: str = "memory", xds: str = "127.0.0.1:0", admin: str | None = None
    ) -> None:
        self._wanted = split_address(xds)
        self._keeper = Keeper(time.monotonic)
        opened = open_store(store)
        try:
            self.plane = Plane(directory, opened, time.monotonic, self._keeper.wake)
            self._admin = AdminServer(admin) if admin is not None else None
        except BaseException:
            opened.close()
            raise
        self._registration = RegistrationService(self.plane.registration, self.plane.lock, time.monotonic)
        self._xds = XdsServer(self.plane.cache, services=[self._registration.add_to])
        self._about = {"config": str(directory) if directory else "", "store": store}
        self.xds_address = ""  # known once started

    @property
    def admin_address(self) -> str | None:
        """Where the admin interface listens; None without one."""
        return self._admin.address if self._admin else None

    def start(self) -> None:
        """Begins to serve. Raises ConfigurationError where an address cannot be listened on; all is stopped then."""
        host, port = self._wanted
        bound = f"[{host}]" if ":" in host else host
        try:
            self.xds_address = f"{bound}:{self._xds.start(f'{bound}:{port}')}"
        except BaseException:
            self.stop()
            raise
        self._keeper.start(self.plane, self._views)
        if self._admin:
            about = {"xds": self.xds_address, "admin": self._admin.address, **self._about}
            self._admin.start(Api(self.plane, self._xds.clients, about))

    def stop(self, grace: float = 1.0) -> None:
        """Ends all of it: calls under way have `grace` seconds. Idempotent."""
        if self._admin:
            self._admin.stop()
        self._registration.close()
        self._xds.stop(grace)
        self._keeper.stop()
        self.plane.close()

    def clients(self) -> tuple[ClientInfo, ...]:
        """Returns the open xDS streams."""
        return self._xds.clients()

    def _views(self) -> Iterable[str]:
        return [client.view for client in self._xds.clients()]
