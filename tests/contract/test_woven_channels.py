"""A channel of `meshsdk run`, on the mesh's way: whatever applications do to calls, it gives the same as grpcio."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest

from meshsdk.channel.aio import MeshAioChannel
from meshsdk.channel.loops import LoopScope
from meshsdk.channel.sync import MeshChannel
from meshsdk.channel.threads import ThreadScope
from meshsdk.instrument.aio_channel import WovenAioChannel
from meshsdk.instrument.gate import Gate
from meshsdk.instrument.switch import Switch, Traffic
from meshsdk.instrument.sync_channel import WovenChannel
from meshsdk.model.resources import Locality
from tests.contract import test_channel_same_aio as aio
from tests.contract import test_channel_same_calls as calls
from tests.contract import test_channel_same_endings as endings
from tests.contract import test_channel_same_futures as futures
from tests.contract.channel_cases import Cases
from tests.contract.channels import HOST, NOWHERE, Lab

SAME = (calls.CASES, endings.CASES, endings.CLOSES)
OF_FACADE = {"sync": (*SAME, futures.CASES), "aio": (*SAME, aio.CASES, aio.CLOSES)}
EACH = [
    (facade, cases, name, shape)
    for facade, all_cases in OF_FACADE.items()
    for cases in all_cases
    for name, shape in cases.all
]


@dataclass
class WovenLab(Lab):
    """A lab whose channels are woven; compared, as those of the mesh, with plain ones."""

    switch: Switch = field(default_factory=lambda: Switch(Traffic()))

    def _engine(self, make: Any) -> Any:
        return SimpleNamespace(
            bootstrap=SimpleNamespace(servers=["scripted"]),
            watch=self.source.watch,
            watch_runtime=lambda *_: None,
            channel=make,
            aio_channel=make,
        )

    def _gate(self, make: Any) -> Gate:
        engine = self._engine(make)
        return Gate(f"{HOST}:1", HOST, lambda: engine, self.switch)

    def _sync(self, address: str, credentials: Any, compression: Any, options: Any) -> grpc.Channel:
        scope = ThreadScope(self.source, Locality(), 7, credentials, options)
        self.scopes.append(scope)

        def make(target: str, *_: Any, **__: Any) -> grpc.Channel:
            return MeshChannel(lambda: scope, target, HOST, compression)

        gate = self._gate(make)
        return WovenChannel(gate, lambda: grpc.insecure_channel(NOWHERE), lambda: make(gate.service))

    async def _aio(self, address: str, credentials: Any, compression: Any, options: Any) -> grpc.aio.Channel:
        scope = LoopScope(self.source, Locality(), 7, credentials, options)
        self.scopes.append(scope)

        def make(target: str, *_: Any, **__: Any) -> grpc.aio.Channel:
            return MeshAioChannel(lambda: scope, target, HOST, compression)

        gate = self._gate(make)
        return WovenAioChannel(
            gate,
            lambda interceptors: grpc.aio.insecure_channel(NOWHERE, interceptors=interceptors),
            lambda: make(gate.service),
            (),
        )


@pytest.fixture
def woven(request, loop_thread) -> Iterator[WovenLab]:
    """The lab of the façade that the test names."""
    lab = WovenLab(request.param, "mesh", loop_thread)
    loop_thread.problems.clear()
    yield lab
    lab.close()
    assert loop_thread.problems == []


@pytest.mark.parametrize(
    ("woven", "cases", "name", "shape"),
    EACH,
    indirect=["woven"],
    ids=[f"{facade}-{name}-{shape}" for facade, _, name, shape in EACH],
)
def test_the_same_on_woven_and_plain_channels(woven, cases: Cases, name, shape):
    """Each case of the contract, by its own docstring."""
    got, expected = cases.compare(woven, name, shape)
    assert got == expected
