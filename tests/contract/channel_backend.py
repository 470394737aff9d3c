"""A real gRPC server with scripted handlers for the channel contract: a request says what its handler shall do.

Runs in the test's process (`Backend`) or, for tests that kill it, as a process of its own: `python channel_backend.py
NAME LOG` prints its port; every request that it executes is a line of LOG, which outlives a SIGKILL.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

SERVICE = "contract.Channel"
METHOD = f"/{SERVICE}/Do"
SHAPES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
METHODS = {shape: f"/{SERVICE}/{shape}" for shape in SHAPES}
INITIAL = (("initial", "first"), ("initial-bin", b"\x00\xfe"))
TRAILING = (("trailing", "last"), ("trailing-bin", b"\xff\x01"))
LIMIT = 9 * 1024 * 1024  # bytes; the server's own, above every limit under test


class Scripted:
    """Handlers of one backend. `executed` is appended to by any thread; `cancelled` and `release` are events."""

    def __init__(self, name: str, record: Callable[[str], None] | None = None) -> None:
        """`record` is told each request at once; without it `executed` alone is."""
        self.name = name
        self.executed: list[str] = []
        self.metadata: list[tuple[tuple[str, str | bytes], ...]] = []
        self.began = threading.Semaphore(0)  # released by each handler that hangs
        self.cancelled = threading.Event()  # set when a hanging handler's call has ended
        self.release = threading.Event()  # lets hanging handlers answer
        self._record = record or (lambda _: None)

    def act(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Does what `request` says; yields the answers."""
        word, _, rest = request.decode().partition(":")
        self.executed.append(request.decode())
        self._record(request.decode())
        if word in ("metadata", "draining"):
            tell(word, context)
            yield self.name.encode()
        elif word in ("say", "id"):
            yield rest.encode()
        elif word == "who":
            yield self.name.encode()
        elif word == "count":
            yield from (str(number).encode() for number in range(int(rest)))
        elif word == "size":
            yield bytes(int(rest))
        elif word == "remaining":
            yield str(context.time_remaining()).encode()
        elif word == "partly":
            yield b"0"
            end("unavailable", "scripted to break off", context)
        elif word in ("hang", "fail", "each"):
            yield from {"hang": self._hang, "fail": self._fail, "each": self._each}[word](rest, context)
        else:
            end(word, rest, context)

    def _hang(self, rest: str, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Answers `rest` times, then waits until it is released or nobody listens any more."""
        if not context.add_callback(self.cancelled.set):
            self.cancelled.set()
        yield from (str(number).encode() for number in range(int(rest or 0)))
        if rest == "":
            context.send_initial_metadata(INITIAL)
        self.began.release()
        while context.is_active() and not self.release.wait(0.01):
            pass
        yield b"released"

    def _each(self, rest: str, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Does what `rest` says for each backend by name (`a=hang:0;b=abort:`); the others say who they are."""
        own = dict(part.split("=", 1) for part in rest.split(";")).get(self.name, "who:")
        yield from self.act(own.encode(), context)

    def _fail(self, times: str, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Fails the first `times` executions of this very request with UNAVAILABLE, then answers."""
        if self.executed.count(f"fail:{times}") <= int(times):
            context.abort(grpc.StatusCode.UNAVAILABLE, "scripted to fail")
        yield self.name.encode()

    def handlers(self) -> grpc.GenericRpcHandler:
        """Returns one method for each shape, of plain bytes."""

        def joined(requests: Iterable[bytes], context: grpc.ServicerContext) -> bytes:
            return b"|".join(answer for request in requests for answer in self.act(request, context))

        def streamed(requests: Iterable[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            for request in requests:
                yield from self.act(request, context)

        def noted(handler):
            def handle(request, context):
                self.metadata.append(tuple(context.invocation_metadata()))
                return handler(request, context)

            return handle

        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "unary_unary": grpc.unary_unary_rpc_method_handler(noted(lambda r, c: joined((r,), c))),
                "unary_stream": grpc.unary_stream_rpc_method_handler(noted(self.act)),
                "stream_unary": grpc.stream_unary_rpc_method_handler(noted(joined)),
                "stream_stream": grpc.stream_stream_rpc_method_handler(noted(streamed)),
            },
        )


def tell(word: str, context: grpc.ServicerContext) -> None:
    """Sets the metadata of an answer."""
    if word == "draining":
        context.set_trailing_metadata((("meshsdk-draining", "1"),))
        return
    context.send_initial_metadata(INITIAL)
    context.set_trailing_metadata(TRAILING)


def end(word: str, rest: str, context: grpc.ServicerContext) -> None:
    """Ends the call in one of the ways that a handler has."""
    if word == "abort":
        context.set_trailing_metadata(TRAILING)
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, rest or "not päng")
    elif word == "code":
        context.set_code(grpc.StatusCode.DATA_LOSS)
        context.set_details("lost")
    elif word == "draining-abort":
        context.set_trailing_metadata((("meshsdk-draining", "1"),))
        context.abort(grpc.StatusCode.ABORTED, "scripted to drain")
    elif word == "unavailable":
        context.abort(grpc.StatusCode.UNAVAILABLE, rest)
    elif word == "pushback":
        context.set_trailing_metadata((("grpc-retry-pushback-ms", rest),))
        context.abort(grpc.StatusCode.UNAVAILABLE, "scripted to push back")
    elif word == "rich":
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.ErrorInfo(reason="SCRIPTED", domain="contract"))
        status = status_pb2.Status(code=grpc.StatusCode.ABORTED.value[0], message="rich", details=[detail])
        context.abort_with_status(rpc_status.to_status(status))
    elif word == "raise":
        raise RuntimeError("scripted")
    else:
        raise AssertionError(f"no such script: {word}")


class Backend:
    """A server in this process. Stop it, or use it as a context manager."""

    scripted: type[Scripted] = Scripted

    def __init__(
        self,
        name: str = "a",
        credentials: grpc.ServerCredentials | None = None,
        port: int = 0,
        record: Callable[[str], None] | None = None,
    ) -> None:
        """Starts to serve on a free loopback port, or on `port`."""
        self.name = name
        self.script = self.scripted(name, record)
        self._threads = futures.ThreadPoolExecutor(32, thread_name_prefix=f"backend-{name}")
        options = (("grpc.max_receive_message_length", LIMIT), ("grpc.so_reuseport", 0))
        self.server = grpc.server(self._threads, handlers=(self.script.handlers(),), options=options)
        where = f"127.0.0.1:{port}"
        if credentials is None:
            self.port = self.server.add_insecure_port(where)
        else:
            self.port = self.server.add_secure_port(where, credentials)
        self.starting()
        self.server.start()

    def starting(self) -> None:
        """The server is about to start: another service may be added."""

    @property
    def address(self) -> str:
        """`127.0.0.1:port`."""
        return f"127.0.0.1:{self.port}"

    @property
    def executed(self) -> list[str]:
        """Every request that a handler began to execute, in order."""
        return self.script.executed

    def stop(self) -> None:
        """Cuts every call and stops."""
        self.script.release.set()
        self.server.stop(0).wait()
        self._threads.shutdown(wait=True)

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def main(name: str, log: str) -> None:
    """Serves until it is killed."""
    written = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    backend = Backend(name, record=lambda request: os.write(written, f"{name} {request}\n".encode()) and None)
    print(backend.port, flush=True)
    while os.getppid() != 1:  # a test that dies must not leave it behind
        time.sleep(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
