"""B3: how much resident memory a client grows by for each endpoint that its configuration holds.

Each figure is of a fresh process: connected with a set of one, looked at, given the large set, looked at again.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import clients
from benchmarks.clients import MESH, NATIVE, World
from benchmarks.machine import resident, settle
from benchmarks.report import Check, Plot, Report, Table, number

_LIMIT = 300.0  # bytes an endpoint
_CHURN = 20  # changes after which memory is looked at once more
_CHURN_SECONDS = 4.0
_COLUMNS = (
    *("endpoints: client", "RSS an endpoint", "own (USS)", "RSS after churn"),
    *("native/this", "RSS before", "CPU a change"),
)


@dataclass(frozen=True, slots=True)
class _Set:
    """`services` services of `size` endpoints each."""

    services: int
    size: int

    @property
    def total(self) -> int:
        """All endpoints."""
        return self.services * self.size

    def __str__(self) -> str:
        return f"{self.size:,}" if self.services == 1 else f"{self.services:,} x {self.size}"


_SETS = (_Set(1, 1_000), _Set(1, 10_000), _Set(1, 100_000), _Set(1_000, 20))
_QUICK = (_Set(1, 1_000), _Set(1, 10_000), _Set(50, 20))


def run(*, quick: bool) -> Report:
    """Measures every client with every set."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    with clients.world() as world:
        for one in _QUICK if quick else _SETS:
            found[str(one)] = {
                variant: _growth(world, variant, one, f"memory-{one.services}-{one.size}-{number_}")
                for number_, variant in enumerate(clients.ALL)
            }
    return _report(found)


def _growth(world: World, variant: str, endpoints: _Set, node: str) -> dict[str, float]:
    """Returns bytes an endpoint: what `rss` and `uss` grew by, `churned`: rss after changes of `cpu` seconds each."""
    world.publish(variant, node, 1)
    with world.client(variant, node) as client:
        settle(client.pid, window=0.2)
        before, before_own = resident(client.pid)
        world.publish(variant, node, endpoints.size, endpoints.services)
        world.plane.ask(do="acknowledged", node=node)
        settle(client.pid, window=0.3)
        after, after_own = resident(client.pid)
        churn = world.plane.ask(do="change", node=node, pid=client.pid, count=_CHURN, seconds=_CHURN_SECONDS)
        churned, _ = resident(client.pid)
    return {
        "start": before,
        "rss": (after - before) / endpoints.total,
        "uss": (after_own - before_own) / endpoints.total,
        "churned": (churned - before) / endpoints.total,
        "cpu": churn["cpu"] / churn["changes"],
    }


def _report(found: dict[str, dict[str, dict[str, float]]]) -> Report:
    rows = [
        (
            f"{size}: {name}",
            number(mine["rss"], "B"),
            number(mine["uss"], "B"),
            number(mine["churned"], "B"),
            f"{variants[NATIVE]['rss'] / mine['rss']:,.1f}x",
            f"{mine['start'] / 2**20:.1f} MiB",
            number(mine["cpu"] * 1000, "ms"),
        )
        for size, variants in found.items()
        for name, mine in variants.items()
    ]
    checks = [
        Check(f"{name}: growth at {size}", variants[name]["rss"], _LIMIT, unit="B")
        for name in MESH
        for size, variants in found.items()
    ]
    single = {size: variants for size, variants in found.items() if " x " not in size}
    series = {
        name: [(float(size.replace(",", "")), variants[name]["rss"]) for size, variants in single.items()]
        for name in clients.ALL
    }
    notes = (
        (
            "Growth of resident memory from one endpoint to the set, a fresh process each; nobody trims. `RSS after "
            f"churn`: after up to {_CHURN} exchanged endpoints. 1,000 endpoints fit into what allocators hold anyway."
        ),
        (
            "1,000 services: one target whose routes lead to 1,000 clusters. Native with pick_first then holds a "
            "connection to each, which is in its figure; the others connect most or all of them when called."
        ),
        clients.LAZY_NOTE,
    )
    plot = Plot("B3: memory", "endpoints in the set", "bytes of RSS an endpoint", series)
    return Report("B3", "memory", (Table("Growth an endpoint", _COLUMNS, rows),), checks, notes, plot, found)
