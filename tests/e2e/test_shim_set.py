"""ShimSet through real `meshctl serve` processes: simulated shims register, are told versions, try them and report."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import grpc
import pytest
import yaml

from meshsdk.discovery.controlplane import ControlPlaneRegistry
from meshsdk.model.instance import Instance
from tests.e2e.control_planes import Served
from tests.e2e.processes import until
from tests.e2e.steered import SteeredNode
from tests.servers.etcd import EtcdServer

OLD, NEW, BROKEN = "1.39.0", "1.40.1", "1.41.0"
SHIM_SET = """\
apiVersion: meshsdk.io/v1alpha1
kind: ShimSet
metadata: {{name: edge}}
spec:
  selector: {{matchLabels: {{app: orders}}}}
  version: {version}
  updateStrategy: {{partition: {partition}, maxUnavailable: 1}}
  failurePolicy: {{maxFailurePercentage: 0, rollback: true}}
"""


class Fleet:
    """Shims that speak ADS and register as instances; an upgrade to a version is what `works` says of it."""

    def __init__(self, ending: ExitStack) -> None:
        self.ending = ending
        self.shims: list[Shim] = []
        self.tried: list[tuple[str, str]] = []  # (shim, version), in order
        self.works: Callable[[str], bool] = lambda _: True
        self.most_busy = 0
        self._busy = 0
        self._lock = threading.Lock()  # guards what is counted

    def add(self, served: Served, name: str) -> None:
        """Starts a shim at a control plane."""
        self.shims.append(self.ending.enter_context(closing(Shim(self, served, name))))

    def begin(self, name: str, version: str) -> bool:
        """Counts one that is away; returns whether it will arrive."""
        with self._lock:
            self.tried.append((name, version))
            self._busy += 1
            self.most_busy = max(self.most_busy, self._busy)
            return self.works(version)

    def end(self) -> None:
        """Counts one that is back."""
        with self._lock:
            self._busy -= 1

    def versions(self) -> list[str]:
        """What they run."""
        return sorted(shim.version for shim in self.shims)


class Shim:
    """One shim. `version` is what its data plane runs; it acts on the thread of its stream."""

    def __init__(self, fleet: Fleet, served: Served, name: str) -> None:
        self.name, self.version, self.wanted = name, OLD, ""
        self._fleet = fleet
        self._registry = ControlPlaneRegistry(grpc.insecure_channel(served.xds), served.xds, timeout=10)
        self._say("running")
        self._node = SteeredNode(served.xds, name, listener=self._told)

    def _say(self, phase: str, problem: str = "") -> None:
        said = {"app": "orders", "version": self.version, "wanted": self.wanted, "phase": phase, "problem": problem}
        labels = {f"meshsdk.io/{key}": value for key, value in said.items()}
        self._registry.register(Instance("meshsdk.shim", self.name, "127.0.0.1:9", labels=labels), 300)

    def _told(self, layer: Mapping[str, object]) -> None:
        version = str(layer["version"])
        if version in {"", self.wanted}:
            return
        self.wanted = version
        if version == self.version:
            self._say("running")
            return
        works = self._fleet.begin(self.name, version)
        self._say("upgrading")
        self.version = version if works else self.version
        self._fleet.end()
        self._say("running" if works else "rolled-back", "" if works else f"{version} did not become healthy")

    def close(self) -> None:
        """Goes without a word."""
        self._node.close()
        self._registry.close()


@pytest.fixture
def ending() -> Iterator[ExitStack]:
    """Closes what a test opened, the last first."""
    with ExitStack() as stack:
        yield stack


def apply(served: Served, version: str, partition: str = "0") -> None:
    """Puts the ShimSet in force."""
    assert served.apply(SHIM_SET.format(version=version, partition=partition)) == 200


def status(served: Served) -> Mapping[str, object]:
    """What the control plane says of the ShimSet."""
    (row,) = served.over_http("/v1/resources/ShimSet/default/edge")
    return row.get("status", {})


def reaches(served: Served, phase: str, **facts: object) -> Mapping[str, object]:
    """Waits until the ShimSet is in a phase with these facts."""

    def there() -> Mapping[str, object]:
        found = status(served)
        assert found.get("phase") == phase, found
        assert facts.items() <= found.items(), found
        return found

    return until(there, f"the ShimSet is {phase}")


def test_a_rollout_and_a_broken_version_that_is_taken_back(ending: ExitStack, tmp_path: Path) -> None:
    """By partition, then all; a broken version stops at the third shim, the two before it go back, meshctl shows it."""
    config = tmp_path / "config"
    config.mkdir()
    store = ("--store", f"sqlite:{tmp_path / 'store.db'}")
    served = ending.enter_context(Served(config, *store))
    fleet = Fleet(ending)
    for number in range(5):
        fleet.add(served, f"o-{number}")
    apply(served, NEW, "60%")
    reaches(served, "Partitioned", updated=2, shims=5, ready=5, failed=0)
    apply(served, NEW)
    reaches(served, "Complete", updated=5)
    assert (fleet.versions(), fleet.most_busy) == ([NEW] * 5, 1)
    assert served.over_http("/v1/services") == [], "shims are no service"
    fleet.works = lambda version: version != BROKEN or sum(tried == BROKEN for _, tried in fleet.tried) < 3
    apply(served, BROKEN)
    found = reaches(served, "RolledBack", updated=0, shims=5, ready=5, failed=1, previousVersion=NEW)
    assert fleet.versions() == [NEW] * 5
    tried = [name for name, version in fleet.tried if version == BROKEN]
    back = [name for name, version in fleet.tried[-2:] if version == NEW]
    assert len(tried) == 3
    assert sorted(back) == sorted(tried[:2])
    why = f"1 of 3 tried failed, 0% may: {tried[2]}: {BROKEN} did not become healthy"
    assert found["message"] == why
    heads, line = served.ask("get", "shimset", "-o", "table").stdout.splitlines()
    assert heads.split() == ["NAME", "VERSION", "SHIMS", "UPDATED", "READY", "FAILED", "PHASE", "MESSAGE"]
    assert line.split(maxsplit=7) == ["edge", BROKEN, "5", "0", "5", "1", "RolledBack", why]
    shown = yaml.safe_load(served.ask("get", "ss", "edge", "-o", "yaml").stdout)
    assert shown["spec"]["version"] == BROKEN
    assert shown["status"]["failures"] == [{"shim": tried[2], "why": f"{BROKEN} did not become healthy"}]
    assert served.metrics()['meshsdk_shims{are="failed",shim_set="edge"}'] == 1.0
    (warning,) = served.over_http("/v1/status")["warnings"]
    assert warning == (
        f"f.yaml:5: spec: ShimSet/edge: RolledBack: 0 of 5 run {BROKEN}, 5 ready, 1 failed: {found['message']}"
    )
    assert served.process.stop() == 0
    again = ending.enter_context(Served(config, *store))
    reaches(again, "RolledBack", failed=1, shims=5)


def test_two_replicas_roll_out_as_one(ending: ExitStack, tmp_path: Path) -> None:
    """Shims at two control planes over one etcd: never two are away at once, all arrive, and both say the same."""
    server = EtcdServer()
    ending.callback(server.remove)
    server.start()
    store = f"etcd://{server.address}?prefix=/shims"
    planes = [ending.enter_context(Served(tmp_path, "--store", store)) for _ in range(2)]
    fleet = Fleet(ending)
    for number in range(6):
        fleet.add(planes[number % 2], f"o-{number}")
    for plane in planes:
        until(lambda plane=plane: plane.over_http("/v1/status")["shims"] == 6, "both know all shims")
    apply(planes[0], NEW)
    statuses = [reaches(plane, "Complete", updated=6, failed=0, ready=6) for plane in planes]
    assert statuses[0] == statuses[1]
    assert (fleet.versions(), fleet.most_busy, len(fleet.tried)) == ([NEW] * 6, 1, 6)
