"""A lab: one registry adapter together with a server that the suite may break.

To plug an adapter in, write `lab_NAME.py` here with a class `TheLab(Lab)` in it, `TheLab(ServerLab)` if its server is a
process; `conftest.py` finds it by its file name. The server is started once per test session by `launch` and ended by
`remove`; the suite makes a lab for each test, which keeps its entries apart from those of other tests (a prefix,
namespace or chroot of its own) and closes what it opened. Features it has not are listed in `lacking` with the reason,
which docs/registries.md repeats: the tests that need them are not run for it.
"""

from __future__ import annotations

import enum
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from meshsdk.discovery.registry import Lease, Registry
from meshsdk.model.instance import Instance
from tests.servers.process import ServerProcess


class Feature(enum.Enum):
    """What a test may need of a lab."""

    REGISTER = "the adapter registers instances itself; else `writer` stands in for whoever does"
    CATALOG = "revisions, and the mapping from services to applications"
    UNITS = "instances keep their unit, and a watch can be of one"
    ALL_APPS = "a watch of all applications"
    LAPSE = "instances that are not renewed go (`elapse`, `lapse`)"
    KILL = "`stop_server` and `start_server`: it comes back with the data that a real one would have"
    FREEZE = "`freeze` and `thaw`: it does nothing, its connections stay open"
    COMPACT = "`compact`: it forgets the past that watchers resume from"
    RAW = "`put_raw`: entries that others left and that cannot be used"


class Lab:
    """Base of every lab. `ttl`: the shortest time to live that the registry grants, in seconds."""

    name: ClassVar[str]
    lacking: ClassVar[Mapping[Feature, str]] = MappingProxyType({})
    ttl: ClassVar[float] = 2.0
    peer: ClassVar[bool] = False  # its server comes from no package registry: `make test-peers` runs it

    def __init__(self, server: Any) -> None:
        self.server = server
        self.space = f"t{uuid.uuid4().hex[:12]}"  # name for what keeps this test's entries apart
        self._opened: list[Registry] = []
        self._writer: Registry | None = None

    @classmethod
    def has(cls, feature: Feature) -> bool:
        """Whether tests of `feature` are run."""
        return feature not in cls.lacking

    # -- the server, one for the session ----------------------------------------------------------------------------

    @classmethod
    def launch(cls) -> Any:
        """Starts the server and returns it when it serves; None where there is none."""
        return None

    @classmethod
    def remove(cls, server: Any) -> None:
        """Ends the server and removes its data."""

    # -- clients ----------------------------------------------------------------------------------------------------

    def connect(self) -> Registry:
        """Returns a new client."""
        raise NotImplementedError

    def open(self) -> Registry:
        """Returns a new client, which is closed after the test."""
        registry = self.connect()
        self._opened.append(registry)
        return registry

    @property
    def address(self) -> str:
        """What messages of failed calls name the server by."""
        return ""

    @property
    def writer(self) -> Registry:
        """Registers instances: a client of its own, or what stands in for it where the adapter cannot."""
        if self._writer is None:
            self._writer = self.open()
        return self._writer

    def fill(self, instances: Iterable[Instance], ttl: float) -> list[Lease]:
        """Registers many instances; override it where there is a faster way."""
        return [self.writer.register(instance, ttl) for instance in instances]

    def threads(self) -> int:
        """Counts the threads of this process, but for those of a server that runs in it."""
        return threading.active_count()

    def close(self) -> None:
        """Closes all clients. Called after each test; extend it to mend what the test broke (thaw, start again)."""
        for registry in self._opened:
            registry.close()

    # -- what may be broken -----------------------------------------------------------------------------------------

    def elapse(self, seconds: float) -> None:
        """Lets the registry's time pass."""
        time.sleep(seconds)

    def lapse(self, registry: Registry) -> None:
        """Has the registrations of a client lapse without deregistering: they run out, or its session is ended."""
        self.elapse(self.ttl)

    def stop_server(self) -> None:
        """Kills the server. Its address stays the same."""
        raise NotImplementedError

    def start_server(self) -> None:
        """Starts it again and waits until it serves."""
        raise NotImplementedError

    def freeze(self) -> None:
        """Stops the server from doing anything (SIGSTOP)."""
        raise NotImplementedError

    def thaw(self) -> None:
        """Lets it go on."""
        raise NotImplementedError

    def compact(self) -> None:
        """Has the registry forget its past, so that a watcher that was away cannot resume."""
        raise NotImplementedError

    def put_raw(self, app: str, key_hint: str, value: bytes) -> None:
        """Leaves an entry among the instances of `app`, as some other program might; its key contains `key_hint`."""
        raise NotImplementedError

    def remove_raw(self, app: str, key_hint: str) -> None:
        """Removes what `put_raw` left."""
        raise NotImplementedError


class ServerLab(Lab):
    """Base of labs whose server is a process (`tests/servers`); their `launch` starts it."""

    server: ServerProcess

    @classmethod
    def remove(cls, server: ServerProcess) -> None:
        """Ends the server and removes its data."""
        server.remove()

    @property
    def address(self) -> str:
        """The server's."""
        return self.server.address

    def close(self) -> None:
        """Closes the clients; has the server serve again."""
        self.server.thaw()
        super().close()
        self.server.start()

    def stop_server(self) -> None:
        """Kills the process."""
        self.server.kill()

    def start_server(self) -> None:
        """Starts it on its data, and waits until it serves."""
        self.server.start()

    def freeze(self) -> None:
        """Stops the process."""
        self.server.freeze()

    def thaw(self) -> None:
        """Lets it go on."""
        self.server.thaw()


def needs(*features: Feature) -> Any:
    """Marks a test as one that only labs with these features can run."""

    def mark(test: Any) -> Any:
        test.needs = features
        return test

    return mark
