"""Cases that are judged by comparison: what an application sees on grpcio's own channel is the yardstick.

So grpcio's quirks (they differ between sync and asyncio, and between releases) are kept and not written down again.
Used by the test_channel_same_* modules; each has a `Cases` of its own and runs it with `compare`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from tests.contract.channel_backend import SHAPES, Backend
from tests.contract.channel_callers import Ended, LoopThread
from tests.contract.channels import Lab

TYPES = (
    grpc.RpcError,
    grpc.RpcContext,
    grpc.Call,
    grpc.Future,
    grpc.FutureCancelledError,
    grpc.FutureTimeoutError,
    grpc.aio.AioRpcError,
    grpc.aio.RpcContext,
    grpc.aio.Call,
    grpc.aio.UnaryUnaryCall,
    grpc.aio.UnaryStreamCall,
    grpc.aio.StreamUnaryCall,
    grpc.aio.StreamStreamCall,
)
Case = Callable[[Any, str, Backend], Any]


class Cases:
    """Named cases, each for some shapes and some façades."""

    def __init__(self) -> None:
        self._cases: dict[str, tuple[Case, tuple[str, ...]]] = {}

    def add(self, *shapes: str) -> Callable[[Case], Case]:
        """Registers a case for these shapes (all four without any)."""

        def register(case: Case) -> Case:
            self._cases[case.__name__] = (case, shapes or SHAPES)
            return case

        return register

    @property
    def all(self) -> list[tuple[str, str]]:
        """(name, shape) of everything to run."""
        return [(name, shape) for name, (_, shapes) in self._cases.items() for shape in shapes]

    def run(self, lab: Lab, name: str, shape: str) -> Any:
        """Runs one on a connected channel to a backend of its own; returns what the application saw."""
        with Backend() as backend:
            caller = lab.open(backend.address)
            assert caller.ask("unary_unary", b"say:warm").answers == [b"warm"]
            backend.executed.clear()
            backend.script.metadata.clear()
            return self._cases[name][0](caller, shape, backend)

    @functools.cache  # noqa: B019 - one per test module
    def native(self, facade: str, path: str, name: str, shape: str, loop: LoopThread) -> Any:
        """What the application saw on grpcio's own channel."""
        lab = Lab(facade, path, loop)
        try:
            return self.run(lab, name, shape)
        finally:
            lab.close()

    def compare(self, lab: Lab, name: str, shape: str) -> tuple[Any, Any]:
        """What was seen on `lab`'s channel, and on its yardstick: grpcio's own, with interceptors for interceptors."""
        yardstick = "plain" if lab.path == "mesh" else "passed"
        return self.run(lab, name, shape), self.native(lab.facade, yardstick, name, shape, lab.loop)


def kinds(thing: object) -> tuple[str, ...]:
    """What an application can test for: grpc's public types, or the exception's own type outside of those."""
    public = tuple(f"{kind.__module__}.{kind.__qualname__}" for kind in TYPES if isinstance(thing, kind))
    return public or (type(thing).__qualname__,)


def said(words: object) -> str:
    """Words without what differs from run to run, in grpcio itself."""
    text = re.sub(r"127\.0\.0\.1:\d+|0x[0-9a-f]+", "ADDRESS", str(words))
    text = re.sub(r"Stream removed \((.*)\)", r"\1", text)  # the server saw the deadline first
    return text.replace("Cannot invoke RPC: Channel closed!", "Cannot invoke RPC on closed channel!")


def view(ended: Ended, **more: Any) -> dict[str, Any]:
    """Everything an application sees of a call's end."""
    seen: dict[str, Any] = {
        "answers": ended.answers,
        "code": ended.code,
        "details": said(ended.details),
        "trailing": ended.trailing,
        "error": kinds(ended.error),
        **more,
    }
    if not isinstance(ended.error, grpc.RpcError):
        seen["words"] = said(ended.error)
    return seen
