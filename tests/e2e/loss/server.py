"""A server of a run, as an application would write it with the SDK: on threads or on asyncio, under `serve`.

Run as a module. Says its address when it takes calls, and `stopped` as its last word. Every execution is written to
`--ledger`. The bootstrap is the environment's.
"""

from __future__ import annotations

import argparse
import asyncio
from concurrent import futures

import grpc
import grpc.aio

import meshsdk
import meshsdk.aio
from meshsdk.lifecycle import serve_aio, serve_sync
from meshsdk.lifecycle.drain import DrainTiming
from tests.e2e.loss.orders import WORKERS, AioOrders, Orders, add
from tests.e2e.loss.records import Ledger


def _on_threads(options: argparse.Namespace, drain: DrainTiming) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(WORKERS), interceptors=meshsdk.server_interceptors())
    address = add(server, Orders(Ledger(options.ledger)), options.listen)
    service = meshsdk.serve(server, app=options.app, address=address, drain=drain)
    print(address, flush=True)
    service.wait()


async def _on_asyncio(options: argparse.Namespace, drain: DrainTiming) -> None:
    server = grpc.aio.server(interceptors=meshsdk.aio.server_interceptors())
    address = add(server, AioOrders(Ledger(options.ledger)), options.listen)
    async with meshsdk.aio.serve(server, app=options.app, address=address, drain=drain) as service:
        print(address, flush=True)
        await service.wait()


def main() -> None:
    """Runs until it has drained."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ledger", required=True, help="the file to append to")
    parser.add_argument("--app", required=True)
    parser.add_argument("--kind", choices=("sync", "aio"), required=True)
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--quiet", type=float, default=1.0, help="see DrainTiming, as for the next two")
    parser.add_argument("--timeout", type=float, default=15.0)
    parser.add_argument("--grace", type=float, default=1.0)
    parser.add_argument("--lease", type=float, default=15.0, help="seconds")
    options = parser.parse_args()
    serve_sync.LEASE_SECONDS = serve_aio.LEASE_SECONDS = options.lease
    drain = DrainTiming(quiet=options.quiet, timeout=options.timeout, grace=options.grace)
    if options.kind == "sync":
        _on_threads(options, drain)
    else:
        asyncio.run(_on_asyncio(options, drain))
    print("stopped", flush=True)


if __name__ == "__main__":
    main()
