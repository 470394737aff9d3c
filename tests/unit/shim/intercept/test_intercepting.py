"""What is in force: what was asked for on this machine and the control plane allows; what is left when that fails."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from meshsdk.errors import LifecycleError, MeshError
from meshsdk.shim.intercept import intercepting, operation, plan
from meshsdk.shim.intercept.intercepting import Intercepting
from meshsdk.shim.intercept.netfilter import InterceptionRefused
from meshsdk.shim.intercept.plan import Plan
from meshsdk.shim.intercept.rules import Rules
from meshsdk.shim.presence import Away
from meshsdk.shim.settings import Inbound, Settings

PLAN = Plan((50051,))


class Kernel:
    """The tables, by the name that they have. `lossy`: how many of the next transactions lose their inbound rules."""

    name = "nft"

    def __init__(self) -> None:
        self.tables: dict[str, Rules] = {}
        self.lossy = 0

    def apply(self, rules: Rules) -> None:
        """Takes them."""
        if self.lossy:
            self.lossy -= 1
            rules = Rules(rules.name, rules.spared, rules.outbound)
        self.tables[rules.name] = rules

    def remove(self, name: str) -> None:
        """Forgets them."""
        self.tables.pop(name, None)

    def count(self, name: str) -> tuple[int, int]:
        """Returns how many there are."""
        rules = self.tables.get(name, Rules(name, 0))
        return len(rules.outbound), len(rules.inbound)


class Application:
    """What is done with the application in the registry."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.ending = False

    def take_offline(self, *, reason: Away) -> bool:
        """Says that it is quiet."""
        self.done.append(("offline", reason))
        return True

    def bring_online(self, reason: Away) -> None:
        """Notes it."""
        self.done.append(("online", reason))

    def label(self, labels: dict[str, str]) -> None:
        """Notes them."""
        self.done.append(labels)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """One for all shims of a test."""
    made = Kernel()
    for module in (intercepting, plan):
        monkeypatch.setattr(module, "backend", lambda _way: made)
    return made


def shim(folder: Path) -> SimpleNamespace:
    """A shim of both directions."""
    folder.mkdir(exist_ok=True)
    settings = Settings("web", folder, (Inbound("0.0.0.0:15006", "127.0.0.1:9000"),), "127.0.0.1:15001")
    return SimpleNamespace(settings=settings, presence=Application())


def begun(folder: Path) -> Intercepting:
    """One whose listeners are there."""
    made = Intercepting(shim(folder), lambda: None)
    made.begin()
    return made


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short one, as shims have."""
    with tempfile.TemporaryDirectory(prefix="int-") as path:
        yield Path(path)


def test_on_does_not_override_the_control_plane(kernel: Kernel, folder: Path) -> None:
    """A TrafficSwitch that was off before `on` stays in force, `on` says so, and its end lets interception begin."""
    made = begun(folder)
    made.follow(client=True, server=False)
    told = made.on(PLAN)
    assert (told["client"], told["server"], told["withheld"]) == (True, False, ["server"])
    assert operation.shown(told) == "intercepted: calls out (1 redirects by nft); off by the control plane: calls in"
    made.follow(client=False, server=False)
    assert operation.shown(made.status()) == "nothing is intercepted; off by the control plane: calls out and calls in"
    assert kernel.tables == {}
    made.follow(client=True, server=True)
    assert (made.status()["client"], made.status()["server"], made.status()["withheld"]) == (True, True, [])


def test_off_by_hand_holds(kernel: Kernel, folder: Path) -> None:
    """After `off` no layer of the control plane turns interception on; `on` does."""
    made = begun(folder)
    made.on(PLAN)
    made.off()
    made.follow(client=False, server=False)
    made.follow(client=True, server=True)
    assert kernel.tables == {}
    assert made.on(PLAN)["redirects"] == 2


def test_a_switch_ends_only_its_own_reason_to_be_offline(kernel: Kernel, folder: Path) -> None:
    """The application goes offline for the switch, and what else keeps it offline is not touched."""
    made = begun(folder)
    made.on(PLAN)
    done = made._shim.presence.done
    assert done == [("offline", Away.SWITCHING), {}, ("online", Away.SWITCHING)]
    made._shim.presence.ending = True
    for attempt in (lambda: made.on(PLAN), made.off, lambda: made.follow(client=False, server=False)):
        with pytest.raises(LifecycleError, match="ending"):
            attempt()
    assert len(kernel.tables) == 1


def test_on_waits_for_the_listeners(kernel: Kernel, folder: Path) -> None:
    """Asked while the shim starts, nothing is intercepted before its listeners are there."""
    made = Intercepting(shim(folder), lambda: None)
    told: list[object] = []
    asking = threading.Thread(target=lambda: told.append(made.on(PLAN)["redirects"]))
    asking.start()
    assert (told, kernel.tables) == ([], {})
    made.begin()
    asking.join(10)
    assert told == [2]


def test_two_shims_of_an_application(kernel: Kernel, folder: Path) -> None:
    """In one network namespace each has a table of its own; the end of one leaves the other's."""
    one, two = begun(folder / "one"), begun(folder / "two")
    one.on(PLAN), two.on(PLAN)
    one.end()
    assert (len(kernel.tables), two.status()["redirects"], one.status()["redirects"]) == (1, 2, 0)


def test_rules_that_something_removes(kernel: Kernel, folder: Path) -> None:
    """A transaction that does not hold: the rules of before are put back; where they do not hold either, all is off."""
    made = begun(folder)
    made.on(PLAN)
    kernel.lossy = 1
    with pytest.raises(InterceptionRefused, match="something removes them"):
        made.on(Plan((50051, 50052)))
    assert made.status()["redirects"] == 2
    kernel.lossy = 2
    with pytest.raises(InterceptionRefused, match="something removes them"):
        made.on(Plan((50051, 50052)))
    assert (made.status()["redirects"], kernel.tables, plan.recalled(folder)[0]) == (0, {}, None)


def test_after_a_kill(kernel: Kernel, folder: Path) -> None:
    """Rules of a killed shim go at the next start, also one that fails; they are back when a shim listens."""
    begun(folder).on(PLAN)
    for _ in range(2):
        plan.take_out("web", folder)
        assert kernel.tables == {}
        failed = Intercepting(shim(folder), lambda: None)
        failed.end()
        with pytest.raises(MeshError):
            failed.on(PLAN)
    made = begun(folder)
    assert made.status()["redirects"] == 2
    made.end()
    assert (kernel.tables, plan.recalled(folder)[0]) == ({}, None)
    assert begun(folder).status()["redirects"] == 0


def test_directions_are_compared_each_for_itself(kernel: Kernel, folder: Path) -> None:
    """Inbound rules that someone removed are not made up for by the outbound ones."""
    made = begun(folder)
    made.on(PLAN)
    name, rules = next(iter(kernel.tables.items()))
    kernel.tables[name] = Rules(name, 0, rules.outbound)
    assert (made.status()["client"], made.status()["server"]) == (True, False)
