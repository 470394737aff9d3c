"""CSDS, `envoy.service.status.v3.ClientStatusDiscoveryService`: what each mesh of this process holds (gRFC A40).

Added to a server by `meshsdk.add_admin_services`; the answers are made anew for each request from what is in force.
Service registries are no xDS: `meshsdk doctor` shows what came from those.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import grpc
import grpc.aio
from envoy.admin.v3 import config_dump_shared_pb2 as dump_pb2
from envoy.service.status.v3 import csds_pb2

from meshsdk.model.resources import Kind
from meshsdk.sight.meshes import dumps
from meshsdk.xds_client.client import Dump
from meshsdk.xds_client.store import Entry, EntryStatus

_SERVICE = "envoy.service.status.v3.ClientStatusDiscoveryService"
_STATUS = {
    EntryStatus.REQUESTED: dump_pb2.REQUESTED,
    EntryStatus.PRESENT: dump_pb2.ACKED,
    EntryStatus.ABSENT: dump_pb2.DOES_NOT_EXIST,
    EntryStatus.INVALID: dump_pb2.NACKED,
    EntryStatus.UNREACHABLE: dump_pb2.TIMEOUT,
}


def client_config(dump: Dump, scope: str, now: float) -> csds_pb2.ClientConfig:
    """Returns one mesh's state. `now`: unix seconds. `scope` tells several meshes of a process apart."""
    config = csds_pb2.ClientConfig(node=dump.node, client_scope=scope)
    for entry, age in dump.entries:
        if entry.key.kind is not Kind.INSTANCES:
            _add(config, entry, now - age)
    return config


def _add(config: csds_pb2.ClientConfig, entry: Entry, changed: float) -> None:
    kind = entry.key.kind.value
    added = config.generic_xds_configs.add(
        type_url=kind, name=entry.key.name, version_info=entry.version, client_status=_STATUS[entry.status]
    )
    added.last_updated.FromNanoseconds(int(changed * 1e9))
    if entry.raw:
        added.xds_config.type_url = kind
        added.xds_config.value = entry.raw
    if entry.problem:
        added.error_state.details = entry.problem
        added.error_state.last_update_attempt.CopyFrom(added.last_updated)


def answer(request: csds_pb2.ClientStatusRequest) -> csds_pb2.ClientStatusResponse:
    """Returns the state of all meshes of this process. `exclude_resource_contents` leaves the bytes out.

    Raises ValueError for node matchers, which A40 lets a client refuse.
    """
    if request.node_matchers:
        raise ValueError("node_matchers are not supported: this is one client (gRFC A40)")
    found = dumps()
    now = time.time()
    scopes = [""] if len(found) == 1 else [f"mesh-{number}" for number in range(1, len(found) + 1)]
    response = csds_pb2.ClientStatusResponse(
        config=[client_config(dump, scope, now) for dump, scope in zip(found, scopes, strict=True)]
    )
    if request.exclude_resource_contents:
        for config in response.config:
            for one in config.generic_xds_configs:
                one.ClearField("xds_config")
    return response


def handler(*, aio: bool) -> grpc.GenericRpcHandler:
    """Returns the service for `add_generic_rpc_handlers` of a server, sync or asyncio."""
    read: Any = csds_pb2.ClientStatusRequest.FromString
    write: Any = csds_pb2.ClientStatusResponse.SerializeToString
    fetch: Any = _fetch_aio if aio else _fetch
    stream: Any = _stream_aio if aio else _stream
    return grpc.method_handlers_generic_handler(
        _SERVICE,
        {
            "FetchClientStatus": grpc.unary_unary_rpc_method_handler(fetch, read, write),
            "StreamClientStatus": grpc.stream_stream_rpc_method_handler(stream, read, write),
        },
    )


def _fetch(request: Any, context: grpc.ServicerContext) -> Any:
    try:
        return answer(request)
    except ValueError as error:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))


def _stream(requests: Iterable[Any], context: grpc.ServicerContext) -> Iterator[Any]:
    for request in requests:
        yield _fetch(request, context)


async def _fetch_aio(request: Any, context: Any) -> Any:
    try:
        return answer(request)
    except ValueError as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))


async def _stream_aio(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
    async for request in requests:
        yield await _fetch_aio(request, context)
