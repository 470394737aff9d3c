"""Channels straight from a registry, for the contract: a Mesh without control plane over a registry in this process."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio

import meshsdk
from meshsdk.discovery.memory import MemoryRegistry, open_url
from meshsdk.discovery.registry import Lease
from meshsdk.model.instance import Instance
from tests.contract.channel_callers import AioCaller, LoopThread, SyncCaller
from tests.contract.channels import NOWHERE

_names = itertools.count(1)
LEASE = 3600.0  # seconds


@dataclass
class DirectLab:
    """Opens channels of one façade to targets of one registry, which the test fills."""

    facade: str
    loop: LoopThread
    section: Mapping[str, Any] = field(default_factory=dict)
    callers: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        url = f"memory://contract-{next(_names)}"
        self.registry: MemoryRegistry = open_url(urlsplit(url))
        self.mesh = meshsdk.Mesh({"meshsdk": {"registries": {"default": {"url": url}}, **self.section}})

    def register(self, address: str, app: str = "orders", **fields: Any) -> tuple[Instance, Lease]:
        """Registers an instance, ONLINE unless `fields` say otherwise; its id is its address."""
        instance = Instance(app, address, address, **fields)
        return instance, self.registry.register(instance, LEASE)

    def open(
        self,
        address: str = "",
        credentials: grpc.ChannelCredentials | None = None,
        compression: grpc.Compression | None = None,
        options: Any = (),
        *,
        target: str = "mesh:///orders",
        intercepted: bool = False,
    ) -> Any:
        """Returns a caller on a channel to `target`; with an address, that is its one instance."""
        if address:
            self.register(address)
        given = {"credentials": credentials, "compression": compression}
        if self.facade == "sync":
            channel: Any = self.mesh.channel(target, list(options), **given)
            if intercepted:
                channel = grpc.intercept_channel(grpc.insecure_channel(NOWHERE), *self.mesh.client_interceptors(target))
            caller: Any = SyncCaller(channel)
        else:

            async def make() -> grpc.aio.Channel:
                if intercepted:
                    return grpc.aio.insecure_channel(NOWHERE, interceptors=self.mesh.aio_client_interceptors(target))
                return self.mesh.aio_channel(target, list(options), **given)

            caller = AioCaller(self.loop.run(make()), self.loop)
        self.callers.append(caller)
        return caller

    def differs(self, case: str) -> bool:
        """See `channels.Lab`: these channels are meant to differ in no case."""
        del case
        return False

    def close(self) -> None:
        """Closes channels, then the mesh."""
        for caller in self.callers:
            caller.close()
        self.mesh.close()
        self.registry.close()
