"""A server of a run that knows nothing of meshsdk: at SIGTERM it calls `server.stop(grace)`.

Run as a module, also under `meshsdk run`. Says its address when it takes calls, and `stopped` as its last word. With
`--listed` it is entered in the registry while it serves, and taken out as it is told to end, as Kubernetes does with a
pod; that part alone uses meshsdk, in the place of whoever runs the server.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from concurrent import futures

import grpc
import grpc.aio

from tests.e2e.loss.orders import WORKERS, AioOrders, Orders, add
from tests.e2e.loss.records import Ledger

_LEASE = 600.0  # seconds; nobody renews it


def _list(app: str, address: str) -> Callable[[], None]:
    """Enters the address in the registry; returns what takes it out."""
    from meshsdk.bootstrap import load_bootstrap  # noqa: PLC0415 - not for a server that is not listed
    from meshsdk.discovery.default_registry import open_default_registry  # noqa: PLC0415 - see above
    from meshsdk.model.instance import Instance, InstanceState  # noqa: PLC0415 - see above

    registry = open_default_registry(load_bootstrap(None, os.environ))
    instance = Instance(
        app=app,
        id=uuid.uuid4().hex,
        address=address,
        revision="plain",
        state=InstanceState.ONLINE,
        started_at=time.time(),
    )
    lease = registry.register(instance, _LEASE)
    return lambda: registry.deregister(lease)


def _on_threads(options: argparse.Namespace) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(WORKERS))
    address = add(server, Orders(Ledger(options.ledger)), options.listen)
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    server.start()
    print(address, flush=True)
    remove = _list(options.app, address) if options.listed else None
    over.wait()
    if remove is not None:
        remove()
    server.stop(options.timeout).wait()


async def _on_asyncio(options: argparse.Namespace) -> None:
    server = grpc.aio.server()
    address = add(server, AioOrders(Ledger(options.ledger)), options.listen)
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    await server.start()
    print(address, flush=True)
    remove = await asyncio.to_thread(_list, options.app, address) if options.listed else None
    await over.wait()
    if remove is not None:
        await asyncio.to_thread(remove)
    await server.stop(options.timeout)


def main() -> None:
    """Runs until it was told to end and has."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ledger", required=True, help="the file to append to")
    parser.add_argument("--app", default="")
    parser.add_argument("--kind", choices=("sync", "aio"), required=True)
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--listed", action="store_true")
    parser.add_argument("--timeout", type=float, default=15.0, help="of server.stop, in seconds")
    options = parser.parse_args()
    if options.kind == "sync":
        _on_threads(options)
    else:
        asyncio.run(_on_asyncio(options))
    print("stopped", flush=True)


if __name__ == "__main__":
    main()
