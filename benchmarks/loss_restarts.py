"""Rolling restarts of three instances under load: ours, and what grpcio offers, in turn. Part of B6 (`loss`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.loss_outcome import Outcome, stage_of, turn_of
from tests.e2e.loss.stage import Serving, Stage
from tests.servers.process import free_port

_INSTANCES = 3
_STOCK = ("--client", "stock")
_XDS, _DIRECT = "xds:///orders", "mesh:///orders"


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to run servers and callers. `targets`: of the callers, alike many for each; none: the addresses."""

    name: str
    targets: Sequence[str]
    how: str = "sdk"
    client: Sequence[str] = ()
    in_place: bool = False  # a new server takes the port of the old one


_WAYS = (
    _Way("meshsdk", (_XDS, _DIRECT)),
    _Way("meshsdk servers, stock xds:/// callers", (_XDS,), client=_STOCK),
    _Way("stock servers, meshsdk callers", (_XDS, _DIRECT), how="listed"),
    _Way("stock server.stop(grace), stock xds:///", (_XDS,), how="listed", client=_STOCK),
    _Way("stock server.stop(grace), plain channel", (), how="listed", client=_STOCK, in_place=True),
)

NOTES = (
    (
        f"{_INSTANCES} instances, sync and asyncio in turn, are replaced one by one. The spare is up before the old "
        "one is told to go, except for the plain channel, whose servers come back on the same port and are called "
        "again before the next one goes."
    ),
    (
        "Stock servers leave the registry as they are told to go and call server.stop(15) at once, as a pod does that "
        "listens to SIGTERM. They lose calls that the core had received and no handler had taken."
    ),
)


def run(rounds: int, restarts: int, callers: int) -> list[Outcome]:
    """Restarts `restarts` servers of every way, in each of `rounds`."""
    with ExitStack() as stack:
        stages = [_stage(stack, way, callers) for way in _WAYS]
        pairs = list(zip(_WAYS, stages, strict=True))
        for number in range(rounds):
            for way, stage in pairs if number % 2 else reversed(pairs):
                roll: Callable[[int], None] = stage.roll_in_place if way.in_place else stage.roll
                with turn_of(stage):
                    roll(restarts)
        return [Outcome(way.name, rounds * restarts, stage.verdict(), way.how == "sdk") for way, stage in pairs]


def _stage(stack: ExitStack, way: _Way, callers: int) -> Stage:
    stage = stage_of(stack, Serving(how=way.how))
    if way.in_place:
        for port in [free_port() for _ in range(_INSTANCES)]:
            stage.serve(1, listen=f"127.0.0.1:{port}")
    else:
        stage.serve(_INSTANCES)
    targets = way.targets or (f"ipv4:{','.join(server.address for server in stage.servers)}",)
    stage.callers(targets, *way.client, count=callers // (2 * len(targets)))
    stage.counts("pause")
    return stage
