"""Whether a shim's listeners are free to be taken, asked before anything is started: one line instead of Envoy's many.

Called by `command`. Takes the addresses for a moment and lets them go; Envoy takes them later.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket

from meshsdk.errors import LifecycleError
from meshsdk.shim.settings import Settings


def check_listeners(settings: Settings) -> None:
    """Raises LifecycleError where a TCP listener is another program's, or one of this shim's own twice."""
    wanted = [("--inbound", one.listen) for one in settings.inbound]
    if settings.outbound and not settings.outbound.startswith("unix:"):
        wanted.append(("--outbound", settings.outbound))
    with contextlib.ExitStack() as taken:
        for option, address in wanted:
            host, _, port = address.rpartition(":")
            ip = ipaddress.ip_address(host.strip("[]"))
            family = socket.AF_INET if ip.version == 4 else socket.AF_INET6  # noqa: PLR2004 - of IP
            try:
                one = taken.enter_context(socket.socket(family, socket.SOCK_STREAM))
                # Not REUSEPORT, as Envoy has: two shims would share a port, and each get some of the calls.
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                one.bind((str(ip), int(port)))
                one.listen(1)  # with REUSEADDR two may be bound to an address, and one may listen
            except OSError as error:
                raise LifecycleError(f"{option}: cannot listen on {address}: {error.strerror or error}") from None
