"""The service of a run, for threads and for asyncio: every execution is written down, its messages counted."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from tests.e2e.loss.records import CALL_ID, Ledger
from tests.e2e.loss.shapes import PACE, SERVICE, check, message

WORKERS = 24  # threads of a sync server: streams hold one each


def add(server: Any, orders: Any, listen: str) -> str:
    """Adds `Orders` or `AioOrders` to a server and binds `listen`; returns the address as peers here dial it."""
    server.add_generic_rpc_handlers((_handlers(orders),))
    return f"127.0.0.1:{server.add_insecure_port(listen)}"


def _handlers(orders: Any) -> grpc.GenericRpcHandler:
    methods = {
        "Get": grpc.unary_unary_rpc_method_handler(orders.get),
        "Read": grpc.unary_unary_rpc_method_handler(orders.get),
        "Watch": grpc.unary_stream_rpc_method_handler(orders.watch),
        "Put": grpc.stream_unary_rpc_method_handler(orders.put),
        "Chat": grpc.stream_stream_rpc_method_handler(orders.chat),
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)


def _id(context: Any) -> str:
    return str(dict(context.invocation_metadata())[CALL_ID])


def _numbers(count: int) -> Iterator[int]:
    return itertools.count() if count < 0 else iter(range(count))


class Orders:
    """On threads. A message out of order raises, so the call fails."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def get(self, request: bytes, context: Any) -> bytes:
        """Unary."""
        call = _id(context)
        self._ledger.begin(call)
        time.sleep(float(request))
        self._ledger.end(call, 1, 1)
        return request

    def watch(self, request: bytes, context: Any) -> Iterator[bytes]:
        """Server streaming."""
        call = _id(context)
        self._ledger.begin(call)
        for index in _numbers(int(request)):
            yield message(index)
            time.sleep(PACE)
        self._ledger.end(call, 1, int(request))

    def put(self, requests: Iterator[bytes], context: Any) -> bytes:
        """Client streaming."""
        call = _id(context)
        self._ledger.begin(call)
        received = 0
        for request in requests:
            check(request, received)
            received += 1
        self._ledger.end(call, received, 1)
        return message(received)

    def chat(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """Both."""
        call = _id(context)
        self._ledger.begin(call)
        received = 0
        for request in requests:
            check(request, received)
            received += 1
            yield request
        self._ledger.end(call, received, received)


class AioOrders:
    """On asyncio, as `Orders`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def get(self, request: bytes, context: Any) -> bytes:
        """Unary."""
        call = _id(context)
        self._ledger.begin(call)
        await asyncio.sleep(float(request))
        self._ledger.end(call, 1, 1)
        return request

    async def watch(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """Server streaming."""
        call = _id(context)
        self._ledger.begin(call)
        for index in _numbers(int(request)):
            yield message(index)
            await asyncio.sleep(PACE)
        self._ledger.end(call, 1, int(request))

    async def put(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        """Client streaming."""
        call = _id(context)
        self._ledger.begin(call)
        received = 0
        async for request in requests:
            check(request, received)
            received += 1
        self._ledger.end(call, received, 1)
        return message(received)

    async def chat(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """Both."""
        call = _id(context)
        self._ledger.begin(call)
        received = 0
        async for request in requests:
            check(request, received)
            received += 1
            yield request
        self._ledger.end(call, received, received)
