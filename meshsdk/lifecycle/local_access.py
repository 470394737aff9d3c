"""What a service can be asked on its own machine: probes over HTTP where wanted, `meshsdk offline` over a Unix socket.

Opened by a service, sync or aio, and closed with it. That the control socket cannot be had is logged and costs no
service its start; a probe port that cannot be had does, for it was asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from meshsdk.errors import ConfigurationError
from meshsdk.lifecycle.control_socket import ControlSocket
from meshsdk.lifecycle.probe_server import ProbeServer

_LOG = logging.getLogger("meshsdk.lifecycle")


class LocalAccess:
    """Both. Owned by the service that opens and closes it."""

    def __init__(self, report: Callable[[], Mapping[str, object]], offline: Callable[[], None]) -> None:
        self._report = report
        self._offline = offline
        self._probes: ProbeServer | None = None
        self._control: ControlSocket | None = None

    @property
    def probe_address(self) -> str | None:
        """`host:port` of the probes, None without."""
        return self._probes.address if self._probes is not None else None

    def open(self, health_port: int | str | None) -> None:
        """Begins to answer. Raises ConfigurationError for a port that cannot be had."""
        if health_port is not None:
            self._probes = ProbeServer(health_port, self._report)
        try:
            self._control = ControlSocket(self._report, self._offline)
        except (ConfigurationError, OSError) as error:
            _LOG.warning("`meshsdk offline` cannot reach this process: %s", error)

    def close(self) -> None:
        """Answers no more; idempotent."""
        probes, self._probes = self._probes, None
        control, self._control = self._control, None
        if control is not None:
            control.close()
        if probes is not None:
            probes.close()
