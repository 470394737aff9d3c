"""The ways to call: ours on threads and on asyncio, grpcio's own `xds:///`, plain grpcio through a stock Envoy 1.40.

All of them read the same control plane. Envoy's listeners, one a service, have the filters of the listeners that the
control plane makes for proxyless clients.
"""

from __future__ import annotations

import json
import tempfile
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from google.protobuf import json_format

from controlplane import embedded
from controlplane.config.documents import parse
from controlplane.config.merge import merge
from controlplane.translate.listener import listener
from tests.e2e.parity.configuration import NAMES, SERVICES, text
from tests.e2e.peers import envoy as stock_envoy
from tests.e2e.peers.envoy import Envoy
from tests.e2e.peers.grpc_process import bootstrap
from tests.e2e.processes import Process, python, until

OURS, AIO, XDS, ENVOY = "ours", "ours, asyncio", "grpcio `xds:///`", "Envoy 1.40"
WAYS = (OURS, AIO, XDS, ENVOY)


class Ended(NamedTuple):
    """How a call ended. `status`: of gRPC, by name; `answer`: the server's name, or the status's words."""

    status: str
    answer: str
    seconds: float


class Backends:
    """The servers' process. Any thread asks it."""

    def __init__(self, process: Process) -> None:
        self.ports: dict[str, int] = json.loads(process.line())
        self._process = process
        self._lock = threading.Lock()

    def arrived(self, prefix: str) -> dict[str, list[tuple[float, str]]]:
        """Returns when and where the attempts of each call arrived, of those whose ids begin so."""
        with self._lock:
            found: dict[str, list[tuple[float, str]]] = json.loads(self._process.ask(prefix))
        return found


class Way:
    """One caller. `name`: of `WAYS`. Any thread calls; one `call` at a time is made."""

    def __init__(self, name: str, process: Process, targets: Mapping[str, str], backends: Backends) -> None:
        self.name = name
        self._process = process
        self._targets = targets
        self._backends = backends
        self._lock = threading.Lock()

    def call(
        self,
        service: str,
        count: int = 1,
        *,
        workers: int = 1,
        deadline: float = 20.0,
        keys: Sequence[str] = (),
        **asked: Any,
    ) -> tuple[list[Ended], dict[int, list[tuple[float, str]]]]:
        """Makes calls; returns their ends, and of each call when and where its attempts arrived.

        `asked`: of each request, see backend.py. `keys`: a value of x-user for each call.
        """
        prefix = uuid.uuid4().hex
        requests = [{"id": f"{prefix}-{number}", **asked} for number in range(count)]
        metadata = [[("x-user", key)] for key in keys] or None
        line = {
            "target": self._targets[service],
            "requests": requests,
            "metadata": metadata,
            "workers": min(workers, count),
            "deadline": deadline,
        }
        with self._lock:
            ended = [Ended(*one) for one in json.loads(self._process.ask(json.dumps(line), 90.0))]
        arrived = self._backends.arrived(prefix)
        return ended, {
            number: [(when, where) for when, where in arrived.get(f"{prefix}-{number}", ())] for number in range(count)
        }

    def answers(self, service: str, count: int, **asked: Any) -> Counter[str]:
        """Makes calls; returns how many were answered by whom."""
        return Counter(one.answer for one in self.call(service, count, **asked)[0] if one.status == "OK")

    def settle(self) -> None:
        """Waits until it has connected to every endpoint of every service."""
        for service in SERVICES:
            if service not in ("aborted", "unheard", "delayed", "late"):
                keys = [f"{number}" for number in range(40)]
                until(
                    lambda service=service, keys=keys: set(self.answers(service, 40, keys=keys)) >= set(NAMES),
                    f"{self.name} to reach all endpoints of {service}",
                )


@contextmanager
def all_ways() -> Iterator[dict[str, Way]]:
    """Starts servers, a control plane and every way."""
    with ExitStack() as stack:
        backends = Backends(stack.enter_context(python("tests/e2e/parity/backend.py", *NAMES)))
        configuration = text(backends.ports)
        plane = stack.enter_context(embedded.start(configuration))
        port = int(plane.xds_address.rpartition(":")[2])
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="parity-")))
        proxy = _envoy(port, configuration, folder)
        stack.callback(proxy.stop)
        listeners = until(lambda: found if len(found := proxy.ports()) == len(SERVICES) else None, "Envoy's listeners")
        of_envoy = {name: f"127.0.0.1:{listeners[name]}" for name in SERVICES}
        of_xds = {name: f"xds:///{name}" for name in SERVICES}
        kinds = {OURS: ("sync", of_xds), AIO: ("aio", of_xds), XDS: ("stock", of_xds), ENVOY: ("stock", of_envoy)}
        found = {}
        for name, (kind, targets) in kinds.items():
            env = bootstrap(port, name)
            process = stack.enter_context(python("tests/e2e/parity/caller.py", kind, env=env))
            found[name] = Way(name, process, targets, backends)
        with ThreadPoolExecutor(len(found)) as pool:
            list(pool.map(Way.settle, found.values()))
        yield found


def _envoy(port: int, configuration: str, folder: Path) -> Envoy:
    """Starts Envoy with a listener for each service."""
    made = merge(parse(configuration, "parity.yaml")).configuration
    original = stock_envoy._bootstrap

    def with_listeners(*arguments: Any, **options: Any) -> dict:
        described = original(*arguments, **options)
        described["static_resources"]["listeners"] = [_listener(name, made) for name in SERVICES]
        return described

    stock_envoy._bootstrap = with_listeners
    try:
        return Envoy(port, "envoy", folder, delta=True, lds=False)
    finally:
        stock_envoy._bootstrap = original


def _listener(name: str, configuration: Any) -> dict:
    manager = http_connection_manager_pb2.HttpConnectionManager()
    assert listener(name, configuration).api_listener.api_listener.Unpack(manager)
    described = stock_envoy._orders()
    described["name"] = name
    theirs = described["filter_chains"][0]["filters"][0]["typed_config"]
    theirs["stat_prefix"] = theirs["rds"]["route_config_name"] = name
    theirs["http_filters"] = json_format.MessageToDict(manager)["httpFilters"]
    return described
