"""`python -m benchmarks.scale [--results DIR] [--write FILE]`: what a large fleet would cost, from measured unit costs.

Takes the unit costs from the JSON of B2 to B5, the events from `fleet`, and writes docs/scale.md with the arithmetic.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import clients, fleet
from benchmarks.fleet import Fleet, Plan, Second
from benchmarks.spread import quantile

_ROOT = Path(__file__).resolve().parent.parent
_TEMPLATE = Path(__file__).with_name("scale.md.in")
_LEDS = "delta, LEDS, 20/500 ms"


@dataclass(frozen=True, slots=True)
class Costs:
    """What one machine measured. Seconds of CPU and bytes."""

    machine: str
    push_cpu: float  # control plane, a delivered xDS message
    client_memory: float  # control plane, a connected client
    event_cpu: float  # etcd, an event delivered to one watcher
    entry_memory: float  # etcd, an entry of application level
    interface_entry_memory: float
    endpoint_bytes: float  # of an EDS resource, each endpoint
    leds_bytes: float  # a change by LEDS
    registry_bytes: float  # a change from the registry, at application level
    interface_factor: float  # bytes of interface level against application level at a subscription
    endpoint_memory: float  # in a client
    change_cpu: float  # in a client, by LEDS
    registry_change_cpu: float  # in a client, from the registry


def costs(results: Path) -> Costs:
    """Reads the results of a run of B2 to B5. Raises FileNotFoundError where one is missing."""
    b2, b3, b4, b5 = (json.loads((results / f"b{number}.json").read_text(encoding="utf-8")) for number in (2, 3, 4, 5))
    churn, memory = b2["data"]["10000"], b3["data"]["10,000"]
    interface, application = b5["data"]["interface level"], b5["data"]["application level"]
    return Costs(
        machine=b2["machine"],
        push_cpu=b4["data"][_LEDS]["cpu"],
        client_memory=b4["data"][_LEDS]["memory"],
        event_cpu=application["etcd CPU a delivered event"],
        entry_memory=application["etcd memory an entry"],
        interface_entry_memory=interface["etcd memory an entry"],
        endpoint_bytes=churn[clients.MESH_DELTA]["bytes"] / 10_000,
        leds_bytes=churn[clients.MESH_LEDS]["bytes"],
        registry_bytes=application["churn, consumer"] / application["churn, events"],
        interface_factor=interface["subscription"] / application["subscription"],
        endpoint_memory=memory[clients.MESH_LEDS]["rss"],
        change_cpu=_median(churn[clients.MESH_LEDS]["cpu"]),
        registry_change_cpu=_median(churn[clients.MESH_REGISTRY]["cpu"]),
    )


def _median(values: list[float]) -> float:
    return quantile(values, 0.5)


@dataclass(frozen=True, slots=True)
class Row:
    """One way to run the fleet. Mean of the hour and its 36 busiest seconds (p99)."""

    name: str
    entries: float
    registry_memory: float
    push: tuple[float, float]  # cores of control planes
    registry: tuple[float, float]  # cores of registries
    network: tuple[float, float]  # bytes a second, to all clients
    client_memory: float
    client_cpu: float  # cores of one client, mean


@dataclass(frozen=True, slots=True)
class Level:
    """How instances are registered and watched, against application level without units.

    `entries`: entries in the registry. `told`: changes that a client hears of. `width`: bytes that tell it of them.
    """

    name: str
    entries: float
    told: float
    width: float


def levels(plan: Plan, unit: Costs) -> tuple[Level, ...]:
    """Returns the levels that are compared."""
    return (
        Level("interface level", plan.interfaces, plan.interfaces, unit.interface_factor),
        Level("application level", 1, 1, 1),
        Level(f"application level, {plan.units} units", 1, 1 / plan.units, 1 / plan.units),
    )


def rows(made: Fleet, seconds: list[Second], unit: Costs) -> list[Row]:
    """Returns every way side by side. docs/scale.md states these formulas in words."""
    return [
        _row(made, seconds, unit, level, way)
        for level in levels(made.plan, unit)
        for way in ("S1, EDS", "S1, LEDS", "S2, registry")
    ]


def _row(made: Fleet, seconds: list[Second], unit: Costs, level: Level, way: str) -> Row:
    plan, direct = made.plan, way == "S2, registry"
    held = sum(size * count for size, count in zip(made.sizes, made.subscribers, strict=True)) / plan.clients
    told = sum(one.told for one in seconds) / len(seconds) / plan.clients
    entries = plan.endpoints * level.entries
    return Row(
        f"{level.name}: {way}",
        entries,
        entries * (unit.interface_entry_memory if level.entries > 1 else unit.entry_memory),
        _mean_and_peak([_push(one, way) * level.told * unit.push_cpu for one in seconds]),
        _mean_and_peak([one.told * level.told * unit.event_cpu * direct for one in seconds]),
        _mean_and_peak([_wire(one, way, level, unit) for one in seconds]),
        held * level.told * unit.endpoint_memory,
        told * level.told * (unit.registry_change_cpu if direct else unit.change_cpu),
    )


def _push(one: Second, way: str) -> int:
    """Messages that control planes deliver in a second, at application level."""
    if way == "S2, registry":
        return 0
    return one.pushes if way == "S1, EDS" else one.told


def _wire(one: Second, way: str, level: Level, unit: Costs) -> float:
    """Bytes to all clients in a second. An EDS resource of one unit holds that unit's share of the endpoints."""
    if way == "S1, EDS":
        return one.pushed_endpoints * unit.endpoint_bytes * level.told * min(level.told, 1)
    if way == "S1, LEDS":
        return one.told * level.told * unit.leds_bytes
    return one.told * level.width * unit.registry_bytes


def _mean_and_peak(values: list[float]) -> tuple[float, float]:
    return sum(values) / len(values), quantile(values, 0.99)


def page(made: Fleet, seconds: list[Second], unit: Costs) -> str:
    """Returns docs/scale.md."""
    plan = made.plan
    table = [
        (
            row.name,
            f"{row.entries:,.0f}",
            f"{row.registry_memory / 1e9:.1f} GB",
            _cores(row.push),
            _cores(row.registry),
            _rate(row.network),
            f"{row.client_memory / 1e6:.2f} MB",
            f"{row.client_cpu * 100:.3f} %",
        )
        for row in rows(made, seconds, unit)
    ]
    told = sum(one.told for one in seconds) / len(seconds)
    facts = {
        "clients": f"{plan.clients:,}",
        "endpoints": f"{sum(made.sizes):,}",
        "applications": f"{plan.applications:,}",
        "dependencies": str(plan.dependencies),
        "deployments": f"{plan.deployments:,}",
        "rollout": f"{plan.rollout:g}",
        "interfaces": str(plan.interfaces),
        "units": str(plan.units),
        "window": f"{plan.window * 1000:g}",
        "largest": f"{made.sizes[0]:,}",
        "changes": f"{sum(one.changes for one in seconds):,}",
        "told": f"{told:,.0f}",
        "pushes": f"{sum(one.pushes for one in seconds) / len(seconds):,.0f}",
        "pushed": f"{sum(one.pushed_endpoints for one in seconds) / len(seconds):,.0f}",
        "planes": f"{plan.clients * unit.client_memory / 1e9:.1f}",
        "table": "\n".join(f"| {' | '.join(cells)} |" for cells in table),
        **{name: _words(value) for name, value in asdict(unit).items()},
    }
    return _TEMPLATE.read_text(encoding="utf-8").format(**facts)


def _words(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _cores(pair: tuple[float, float]) -> str:
    return "-" if not any(pair) else f"{pair[0]:.2f}; {pair[1]:.2f}"


def _rate(pair: tuple[float, float]) -> str:
    return "; ".join(f"{value / 1e6:,.1f} MB/s" for value in pair)


def main() -> int:
    """Prints the page, or writes it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--results", type=Path, default=_ROOT / "benchmarks" / "results", metavar="DIR")
    parser.add_argument("--write", type=Path, metavar="FILE")
    options = parser.parse_args()
    made = fleet.build(fleet.Plan())
    text = page(made, fleet.hour(made), costs(options.results))
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
