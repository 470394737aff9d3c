"""A Nacos server for tests, as far as this project's adapter speaks with one: its gRPC protocol over a port 1000 above.

Held to the real server by `make test-peers`, which runs the same suite against both. As the real one: connections that
must be set up before anything is answered, instances and subscriptions that end with their connection, one instance or
one batch per connection and service, pushes of whole services some time after a change, subscriptions by cluster, pages
of service names, configurations that can be read a moment after they were published and that survive a kill.

Run as a script: `nacos_fake.py PORT FILE`.
"""

from __future__ import annotations

import hashlib
import json
import queue
import sys
import threading
import time
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

if __name__ == "__main__":  # the script of a child process
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from meshsdk.discovery.nacos import payload_pb2 as pb

Json = dict[str, Any]
Service = tuple[str, str, str]  # namespace, group, name
_PUSH_DELAY = 0.1  # seconds; 0.5 in the real one
_READABLE = 0.03  # seconds until a configuration can be read
_OK: Json = {"resultCode": 200, "errorCode": 0, "success": True}


@dataclass(eq=False)
class Connection:
    """One client's. `peer` is its address, by which its unary calls are known."""

    peer: str
    pushes: queue.SimpleQueue[pb.Payload | None] = field(default_factory=queue.SimpleQueue)
    published: dict[Service, list[Json]] = field(default_factory=dict)
    subscribed: dict[Service, str] = field(default_factory=dict)  # clusters


class FakeNacos:
    """The state. Guarded by `_lock`."""

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        self._connections: dict[str, Connection] = {}
        self._services: dict[Service, None] = {}
        self._file = file
        self._configs: dict[str, tuple[str, float, str]] = {}  # content, when it can be read, and what until then
        if file.exists():
            self._configs = {name: (content, 0.0, "") for name, content in json.loads(file.read_text()).items()}
        self._changed: dict[Service, float] = {}  # when to push
        self._serial = 0
        threading.Thread(target=self._push, daemon=True).start()

    # -- the two methods --------------------------------------------------------------------------------------------

    def request(self, payload: pb.Payload, context: grpc.ServicerContext) -> pb.Payload:
        """Unary."""
        kind, body = payload.metadata.type, json.loads(payload.body.value)
        if kind == "ServerCheckRequest":
            return _payload("ServerCheckResponse", {**_OK, "connectionId": context.peer()})
        with self._lock:
            connection = self._connections.get(context.peer())
            if connection is None:
                return _error(301, "Connection is unregistered.")
            if kind == "FakeResetRequest":  # the two that the real one has not: for tests
                connection.pushes.put(_payload("ConnectResetRequest", {"requestId": "reset"}))
                return _payload("FakeResetResponse", _OK)
            if kind == "FakeHeadersRequest":
                return _payload("FakeHeadersResponse", {**_OK, "headers": dict(payload.metadata.headers)})
            answer = getattr(self, f"_{kind}", None)
            return _error(302, f"no handler for {kind}") if answer is None else answer(connection, body)

    def stream(self, payloads: Any, context: grpc.ServicerContext) -> Any:
        """In both directions: sets the connection up, and pushes."""
        connection = Connection(context.peer())
        context.add_callback(lambda: self._gone(connection))
        threading.Thread(target=self._listen, args=(connection, payloads), daemon=True).start()
        while (pushed := connection.pushes.get()) is not None:
            yield pushed

    def _listen(self, connection: Connection, payloads: Any) -> None:
        try:
            for payload in payloads:
                if payload.metadata.type == "ConnectionSetupRequest":
                    time.sleep(0.01)  # as the real one takes its time
                    with self._lock:
                        self._connections[connection.peer] = connection
        except grpc.RpcError:
            pass  # it is gone, which the callback sees to

    def _gone(self, connection: Connection) -> None:
        with self._lock:
            if self._connections.get(connection.peer) is connection:
                del self._connections[connection.peer]
            for service in connection.published:
                self._change(service)
        connection.pushes.put(None)

    # -- naming -----------------------------------------------------------------------------------------------------

    def _HealthCheckRequest(self, _connection: Connection, _body: Json) -> pb.Payload:
        return _payload("HealthCheckResponse", _OK)

    def _InstanceRequest(self, connection: Connection, body: Json) -> pb.Payload:
        service = _service(body)
        self._services[service] = None
        if body["type"] == "registerInstance":
            connection.published[service] = [body["instance"]]
        else:
            connection.published.pop(service, None)
        self._change(service)
        return _payload("InstanceResponse", {**_OK, "type": body["type"]})

    def _BatchInstanceRequest(self, connection: Connection, body: Json) -> pb.Payload:
        service = _service(body)
        self._services[service] = None
        connection.published[service] = body["instances"]
        self._change(service)
        return _payload("BatchInstanceResponse", {**_OK, "type": body["type"]})

    def _SubscribeServiceRequest(self, connection: Connection, body: Json) -> pb.Payload:
        service = _service(body)
        if body["subscribe"]:
            connection.subscribed[service] = body["clusters"]
        else:
            connection.subscribed.pop(service, None)
        return _payload("SubscribeServiceResponse", {**_OK, "serviceInfo": self._info(service, body["clusters"])})

    def _ServiceQueryRequest(self, _connection: Connection, body: Json) -> pb.Payload:
        info = self._info(_service(body), body["cluster"])
        return _payload("QueryServiceResponse", {**_OK, "serviceInfo": info})

    def _ServiceListRequest(self, _connection: Connection, body: Json) -> pb.Payload:
        names = [name for space, group, name in self._services if (space, group) == _service(body)[:2]]
        start = (body["pageNo"] - 1) * body["pageSize"]
        page = names[start : start + body["pageSize"]]
        return _payload("ServiceListResponse", {**_OK, "count": len(names), "serviceNames": page})

    def _info(self, service: Service, clusters: str) -> Json:
        wanted = set(clusters.split(",")) if clusters else None
        hosts = [
            {**host, "serviceName": f"{service[1]}@@{service[2]}", "instanceHeartBeatInterval": 5000}
            for connection in self._connections.values()
            for host in connection.published.get(service, ())
            if host["enabled"] and (wanted is None or host["clusterName"] in wanted)
        ]
        stamp = time.time_ns() // 1_000_000
        named = {"name": service[2], "groupName": service[1], "clusters": clusters}
        return {**named, "cacheMillis": 10_000, "hosts": hosts, "lastRefTime": stamp, "allIPs": False}

    # -- pushing ----------------------------------------------------------------------------------------------------

    def _change(self, service: Service) -> None:
        self._changed.setdefault(service, time.monotonic() + _PUSH_DELAY)

    def _push(self) -> None:
        while True:
            time.sleep(0.02)
            with self._lock:
                due = [service for service, at in self._changed.items() if at <= time.monotonic()]
                for service in due:
                    del self._changed[service]
                    for connection in self._connections.values():
                        if service in connection.subscribed:
                            self._serial += 1
                            info = self._info(service, connection.subscribed[service])
                            body = {"requestId": str(self._serial), "module": "naming", "serviceInfo": info}
                            connection.pushes.put(_payload("NotifySubscriberRequest", body))

    # -- configurations ---------------------------------------------------------------------------------------------

    def _ConfigQueryRequest(self, _connection: Connection, body: Json) -> pb.Payload:
        content, readable, before = self._configs.get(_config(body), ("", 0.0, ""))
        content = content if readable <= time.monotonic() else before
        if not content:
            return _payload("ConfigQueryResponse", {"resultCode": 500, "errorCode": 300, "message": "not exist"})
        return _payload("ConfigQueryResponse", {**_OK, "content": content, "md5": _md5(content)})

    def _ConfigPublishRequest(self, _connection: Connection, body: Json) -> pb.Payload:
        name = _config(body)
        content = self._configs.get(name, ("",))[0]
        if body["casMd5"] and body["casMd5"] != _md5(content):
            return _error(500, "Cas publish fail, server md5 may have changed.")
        self._configs[name] = (body["content"], time.monotonic() + _READABLE, content)
        self._file.write_text(json.dumps({key: value[0] for key, value in self._configs.items()}))
        return _payload("ConfigPublishResponse", _OK)


def _service(body: Json) -> Service:
    return body["namespace"], body["groupName"], body["serviceName"]


def _config(body: Json) -> str:
    return "\n".join((body["tenant"], body["group"], body["dataId"]))


def _md5(content: str) -> str:
    return hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()


def _payload(kind: str, body: Json) -> pb.Payload:
    return pb.Payload(metadata=pb.Metadata(type=kind), body=pb.Body(value=json.dumps(body).encode()))


def _error(code: int, message: str) -> pb.Payload:
    return _payload("ErrorResponse", {"resultCode": 500, "errorCode": code, "message": message})


def _main() -> None:
    fake = FakeNacos(Path(sys.argv[2]))
    codec = {
        "request_deserializer": pb.Payload.FromString,
        "response_serializer": pb.Payload.SerializeToString,
    }
    unary = grpc.unary_unary_rpc_method_handler(fake.request, **codec)
    stream = grpc.stream_stream_rpc_method_handler(fake.stream, **codec)
    server = grpc.server(futures.ThreadPoolExecutor(64), options=[("grpc.max_receive_message_length", 64 << 20)])
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("Request", {"request": unary}),
            grpc.method_handlers_generic_handler("BiRequestStream", {"requestBiStream": stream}),
        )
    )
    server.add_insecure_port(f"127.0.0.1:{int(sys.argv[1]) + 1000}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    _main()
