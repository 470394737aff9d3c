"""What applications serve: which of them serve a gRPC service, and what their revisions contain. Pure.

One `Catalogue` for each registry in use, owned by its desk, which carries out what is `due` and brings the answers.
The mapping of a service is asked for every few seconds, with jitter; the content of a revision once, however many
instances have it. An application that leaves a mapping stays for a while: a registry that restarted without its data
has no mapping at first, and instances that do serve no longer say so by their revision.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from meshsdk.discovery.backoff import delay
from meshsdk.discovery.method_defaults import methods_of
from meshsdk.model.instance import Revision
from meshsdk.model.resources import Methods

_POLL = 5.0  # seconds between two looks at a mapping: a new provider appears within about this
_PLAIN_POLL = 60.0  # the same for a name that is an application's and no service's
_RETRY_UNKNOWN = 30.0  # seconds until an unpublished revision is asked for again
_SPREAD = 0.2  # jitter of polls, so that clients that started together do not ask together
_SLOT = 0.25  # seconds: questions that are due within it are asked together
_MOST_REVISIONS = 10_000  # contents remembered; the oldest go


@dataclass(frozen=True, slots=True)
class MapService:
    """Ask which applications serve a gRPC service."""

    service: str


@dataclass(frozen=True, slots=True)
class GetRevision:
    """Ask what a revision contains."""

    app: str
    revision: str


Ask = MapService | GetRevision


@dataclass(slots=True)
class _Service:
    """A followed service. `apps` is None until answered; `absent` says since when an application has been missing."""

    users: int = 0
    plain: bool = False
    apps: tuple[str, ...] | None = None
    absent: dict[str, float] = field(default_factory=dict)
    next_at: float = 0.0
    asking: bool = False
    failures: int = 0


@dataclass(slots=True)
class _Content:
    """A revision. `methods` is None until known, and then for good; `tried`: an answer or a failure has come.

    `malformed`: what the registry has of it cannot be read.
    """

    methods: Methods | None = None
    services: frozenset[str] = frozenset()
    tried: bool = False
    malformed: bool = False
    next_at: float = 0.0
    asking: bool = False
    failures: int = 0


class Catalogue:
    """Owned by the thread of a desk. `period`: seconds that an application stays after it has left a mapping."""

    def __init__(self, draw: Callable[[], float], period: float) -> None:
        self._draw = draw
        self._period = period
        self._services: dict[str, _Service] = {}
        self._contents: OrderedDict[tuple[str, str], _Content] = OrderedDict()
        self._open: set[tuple[str, str]] = set()  # revisions that are wanted and whose content is not known
        self._deadline: float | None = None  # when the next question is due, or earlier
        self.problem = ""  # why the last question for a mapping was not answered, "" if it was

    def follow(self, service: str) -> None:
        """A consumer begins to use a service's mapping."""
        self._services.setdefault(service, _Service()).users += 1
        self._sooner(0.0)

    def unfollow(self, service: str) -> None:
        """A consumer no longer uses it."""
        known = self._services[service]
        known.users -= 1
        if not known.users:
            del self._services[service]

    def apps(self, service: str) -> tuple[str, ...] | None:
        """Returns the applications that serve it (sorted), () if it is no service; None if nobody has said yet."""
        return self._services[service].apps

    def plain(self, service: str, *, plain: bool) -> None:
        """Says that the name is an application's with instances, so that its mapping is looked at less often."""
        self._services[service].plain = plain

    def serves(self, service: str, app: str, revision: str) -> bool | None:
        """Tells whether instances of a revision serve `service`; True if it cannot be known, None: it is being asked.

        An instance without a revision published nothing and may serve anything.
        """
        if not revision:
            return True
        known = self._content(app, revision)
        if known.methods is not None:
            return service in known.services
        return True if known.tried else None

    def methods(self, app: str, revision: str) -> Methods | None:
        """Returns what a revision says of its methods; None: it is not known, or nothing was published."""
        return self._content(app, revision).methods if revision else None

    def _content(self, app: str, revision: str) -> _Content:
        """Returns what is known of a revision; it is asked for if that is nothing."""
        known = self._contents.get((app, revision))
        if known is None:
            known = self._contents[app, revision] = _Content()
            self._open.add((app, revision))
            self._sooner(0.0)
            self._trim()
        return known

    def restore(self, service: str, apps: tuple[str, ...]) -> bool:
        """Takes a mapping that an earlier process knew last; returns whether it was of use."""
        known = self._services.get(service)
        if known is None or known.apps is not None:
            return False
        known.apps = apps
        return True

    def due(self, now: float) -> list[Ask]:
        """Returns what is to be asked now; each question is out until it is answered or has failed."""
        if self._deadline is None or self._deadline > now:
            return []
        asks: list[Ask] = []
        later: list[float] = []
        waiting: list[tuple[Ask, _Service | _Content]] = [
            (MapService(name), one) for name, one in self._services.items()
        ]
        waiting.extend((GetRevision(*key), self._contents[key]) for key in self._open)
        for ask, one in waiting:
            if one.asking:
                continue
            if one.next_at <= now + _SLOT:
                one.asking = True
                asks.append(ask)
            else:
                later.append(one.next_at)
        self._deadline = min(later, default=None)
        return asks

    def mapped(self, service: str, apps: tuple[str, ...], now: float) -> bool:
        """The registry has answered a MapService; returns whether the mapping in force changed."""
        self.problem = ""
        known = self._services.get(service)
        if known is None:
            return False
        known.asking, known.failures = False, 0
        pause = _PLAIN_POLL if known.plain and not apps else _POLL
        known.next_at = now + pause * (1 + _SPREAD * (2 * self._draw() - 1))
        self._sooner(known.next_at)
        missing = [app for app in known.apps or () if app not in apps]
        known.absent = {app: known.absent.get(app, now) for app in missing}
        staying = {app for app, since in known.absent.items() if now - since < self._period}
        before, known.apps = known.apps, tuple(sorted({*apps, *staying}))
        return known.apps != before

    def described(self, ask: GetRevision, content: Revision | None, now: float) -> bool:
        """The registry has answered a GetRevision; returns whether `serves` may answer otherwise than before."""
        key = (ask.app, ask.revision)
        known = self._contents.get(key)
        if known is None:
            return False
        known.asking, known.failures = False, 0
        news = not known.tried or content is not None
        known.tried = True
        if content is None:
            known.next_at = now + _RETRY_UNKNOWN
            self._sooner(known.next_at)
        else:
            known.methods = methods_of(content)
            known.services = frozenset(name.split("/")[1] for name in known.methods)
            self._open.discard(key)
        return news

    def malformed(self, ask: GetRevision, now: float) -> tuple[bool, bool]:
        """The registry has something of a revision that cannot be read: as if it was not published.

        Returns whether `serves` may answer otherwise than before, and whether this is the first time.
        """
        known = self._contents.get((ask.app, ask.revision))
        first = known is not None and not known.malformed
        if known is not None:
            known.malformed = True
        return self.described(ask, None, now), first

    def failed(self, ask: Ask, problem: str, now: float) -> bool:
        """The registry did not answer; returns whether `serves` may answer otherwise than before.

        A mapping that is not answered is taken for an outage of the registry; a revision, of which others may be the
        cause, for no more than a revision that is not known.
        """
        known: _Service | _Content | None
        if isinstance(ask, MapService):
            self.problem = problem
            known = self._services.get(ask.service)
        else:
            known = self._contents.get((ask.app, ask.revision))
        if known is None:
            return False
        known.asking = False
        known.failures += 1
        known.next_at = now + delay(known.failures, self._draw())
        self._sooner(known.next_at)
        if isinstance(known, _Content) and not known.tried:
            known.tried = True
            return True
        return False

    def interrupted(self) -> None:
        """Questions that are out will not be answered: they are asked again."""
        for service in self._services.values():
            service.asking = False
        for content in self._contents.values():
            content.asking = False
        self._sooner(0.0)

    def deadline(self) -> float | None:
        """When `due` is to be called at the latest; None: not before something happens."""
        return self._deadline

    def _sooner(self, at: float) -> None:
        self._deadline = at if self._deadline is None else min(self._deadline, at)

    def _trim(self) -> None:
        while len(self._contents) > _MOST_REVISIONS:
            key, _ = self._contents.popitem(last=False)
            self._open.discard(key)
