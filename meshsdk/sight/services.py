"""The admin services of gRPC (gRFC A38) in one line: channelz and CSDS. Called through `meshsdk.add_admin_services`."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

from meshsdk.errors import ConfigurationError
from meshsdk.sight import csds


def add_admin_services(server: grpc.Server | grpc.aio.Server) -> None:
    """Adds `grpc.channelz.v1.Channelz` and CSDS to a server that has not been started; sync or asyncio.

    They show addresses, routes and the whole configuration: listen where only operators come. Raises
    ConfigurationError without the package for channelz.
    """
    try:
        from grpc_channelz.v1 import channelz  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ConfigurationError("admin services need grpcio-channelz: pip install 'meshsdk[admin]'") from error
    aio = isinstance(server, grpc.aio.Server)
    add: Any = channelz.add_channelz_servicer
    add(server)
    server.add_generic_rpc_handlers((csds.handler(aio=aio),))
