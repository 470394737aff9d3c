"""Asks endpoints for their load out of band (`OpenRcaService`, gRFC A51), on the connections that calls use.

A balancer under such a policy has its scope ask all connected endpoints once a period; each answer goes to the
endpoint's `EndpointWatch`. An asking takes the first report of a stream and ends the stream: a stream that stays open
would cost a synchronous channel two threads for each endpoint. Servers send their first report at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import grpc
import grpc.aio

from meshsdk.channel.attempt_watch import EndpointWatch
from meshsdk.channel.pool import Connection
from meshsdk.orca.codec import UnreadableReport, decode, encode_request

_LOG = logging.getLogger(__name__)
_METHOD = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics"
_PATIENCE = 2.0  # seconds that endpoints have to answer
_AT_ONCE = 32  # endpoints that are asked at the same time


class Asked(NamedTuple):
    """An endpoint to ask, and who is told."""

    connection: Connection
    watch: EndpointWatch


def ask_all(asked: Sequence[Asked], period: float) -> None:
    """Asks over synchronous connections, on a thread of its own: blocks, a few seconds at most for 32 endpoints."""
    request = encode_request(period)
    for first in range(0, len(asked), _AT_ONCE):
        running = [(one, _begin(one.connection, request)) for one in asked[first : first + _AT_ONCE]]
        for one, call in running:
            if call is None:
                continue
            try:
                _take(one.watch, next(call, None))
            except grpc.RpcError as error:
                _failed(one, error)
            finally:
                call.cancel()


async def aask_all(asked: Sequence[Asked], period: float) -> None:
    """The same for connections of grpc.aio, in a task of their loop."""
    request = encode_request(period)
    places = asyncio.Semaphore(_AT_ONCE)

    async def ask(one: Asked) -> None:
        async with places:
            call = _begin(one.connection, request)
            if call is None:
                return
            try:
                data = await call.read()
                _take(one.watch, None if data is grpc.aio.EOF else data)
            except grpc.RpcError as error:
                _failed(one, error)
            finally:
                call.cancel()

    await asyncio.gather(*(ask(one) for one in asked))


def _begin(connection: Connection, request: bytes) -> Any:
    try:
        return connection.link.channel.unary_stream(_METHOD)(request, timeout=_PATIENCE)
    except (ValueError, grpc.aio.UsageError):  # the channel was closed since it was chosen
        return None


def _take(watch: EndpointWatch, data: bytes | None) -> None:
    if data is None:
        return
    try:
        watch.told(decode(data))
    except UnreadableReport as error:
        watch.complain(str(error))


def _failed(one: Asked, error: Any) -> None:
    code = error.code()
    if code is grpc.StatusCode.UNIMPLEMENTED:
        one.watch.tells_nothing()
    _LOG.debug("endpoint %s did not tell its load: %s: %s", one.connection.address, code, error.details())
