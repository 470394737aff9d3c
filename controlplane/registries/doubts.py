"""Which instances of a followed registry are kept though it says that they are gone. Pure: `now` comes in.

The rule is the SDK's (`meshsdk.discovery.outage`, docs/discovery.md), so that clients of the control plane fare like
those that follow the registry themselves: who drains is believed, and so is a loss that leaves at least half of an
application; beyond that those that vanished stay, in doubt, until they are told again or the period is over. Asked by
`followed`, which owns one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from meshsdk.discovery.outage import Protection
from meshsdk.model.instance import Instance, InstanceState

_LOG = logging.getLogger(__name__)
_Identity = tuple[str, str]  # (application, id)


@dataclass(slots=True)
class _Application:
    """`confirmed`: how many instances are ONLINE and not in doubt."""

    protection: Protection
    confirmed: int = 0


class Doubts:
    """About the registry `name`; guarded by the lock of its owner. `period`: seconds of doubt, 0 for none."""

    def __init__(self, name: str, period: float) -> None:
        self._name = name
        self._period = period
        self._apps: dict[str, _Application] = {}
        self._doubted: dict[_Identity, float] = {}  # until when

    def __len__(self) -> int:
        return len(self._doubted)

    def told(self, app: str, identifier: str, before: Instance | None, after: Instance | None) -> None:
        """The registry has told of an instance: it is what it says, and in no doubt."""
        known = self._application(app)
        counted, counts = self._counts(app, before), _online(after)
        self._doubted.pop((app, identifier), None)
        known.confirmed += counts - counted
        known.protection.said_farewell(max(0, counted - counts))

    def vanished(self, app: str, gone: Iterable[Instance], now: float) -> frozenset[str]:
        """The registry no longer has these; returns the ids of those that stay nevertheless."""
        known = self._application(app)
        known.protection.note(known.confirmed, now)
        gone = list(gone)
        silent = [instance for instance in gone if self._counts(app, instance)]
        known.confirmed -= len(silent)
        if silent and known.protection.doubts(known.confirmed, now):
            words = "%s says that %d of %d instances of %s are gone at once; in doubt, they stay for %g s"
            _LOG.warning(words, self._name, len(silent), known.confirmed + len(silent), app, self._period)
            self._doubted.update(((app, instance.id), now + self._period) for instance in silent)
        known.protection.note(known.confirmed, now)
        return frozenset(instance.id for instance in gone if (app, instance.id) in self._doubted)

    def over(self, now: float, *, away: bool) -> list[_Identity]:
        """Returns those whose time is over. While the registry is `away` nobody could dispel doubts: they go on."""
        ended = [identity for identity, until in self._doubted.items() if until <= now]
        for identity in ended:
            if away:
                self._doubted[identity] = now + self._period
            else:
                del self._doubted[identity]
        return [] if away else ended

    def next_deadline(self) -> float | None:
        """Returns when `over` has something to say."""
        return min(self._doubted.values(), default=None)

    def forget(self, app: str) -> None:
        """The application has no instance left."""
        self._apps.pop(app, None)

    def _application(self, app: str) -> _Application:
        known = self._apps.get(app)
        if known is None:
            known = self._apps[app] = _Application(Protection(self._period))
        return known

    def _counts(self, app: str, instance: Instance | None) -> int:
        return int(instance is not None and _online(instance) and (app, instance.id) not in self._doubted)


def _online(instance: Instance | None) -> int:
    return int(instance is not None and instance.state is InstanceState.ONLINE)
