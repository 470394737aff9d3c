"""What the admin interface answers: a request in, a status and a JSON value out. No sockets; called by `server`.

GET    /metrics                         Prometheus text
GET    /v1/status
GET    /v1/clients
GET    /v1/services
GET    /v1/resources[/KIND[/NAMESPACE/NAME]]
POST   /v1/resources?file=NAME          body: YAML
DELETE /v1/resources/KIND/NAMESPACE/NAME
GET    /v1/routes/HOST
GET    /v1/endpoints/HOST
GET    /v1/rollout-report?app=APP&since=UNIX&until=UNIX
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from controlplane import health
from controlplane.admin.metrics import CONTENT_TYPE, Metrics
from controlplane.admin.rollout import RolloutReports
from controlplane.admin.statuses import statuses
from controlplane.config.documents import Entry
from controlplane.config.problems import ConfigurationRefused
from controlplane.configured import NoSuchResource
from controlplane.loads.book import LoadBook
from controlplane.model.identity import ResourceId, ResourceKind
from controlplane.plane import Plane
from controlplane.ratelimit.limiter import LimitFigures
from controlplane.server.status import ClientInfo, Counters
from controlplane.store.port import StoreError
from meshsdk.errors import ConfigurationError

METRICS = "/metrics"
_OK, _BAD, _MISSING, _METHOD, _REFUSED, _FAILED = 200, 400, 404, 405, 422, 503


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status and the JSON value of the body."""

    status: int
    value: object


@dataclass(frozen=True, slots=True)
class Text:
    """A body that is no JSON, and its type. Its status is 200."""

    content_type: str
    body: bytes


def _error(status: int, *texts: str) -> Answer:
    return Answer(status, {"errors": list(texts)})


class Api:
    """Answers from `plane`. Thread-safe as the plane is.

    Args:
        plane: answers most of it.
        clients: the xDS server's open streams.
        about: returns further facts for status, such as addresses.
        counters: what the xDS server has counted.
        book: what clients told of their calls.
        figures: what the rate limit service has decided.
    """

    def __init__(
        self,
        plane: Plane,
        clients: Callable[[], Iterable[ClientInfo]],
        about: Callable[[], Mapping[str, object]],
        counters: Callable[[], Counters],
        book: LoadBook,
        figures: Callable[[], LimitFigures] = LimitFigures,
    ) -> None:
        self._plane = plane
        self._rollouts = RolloutReports(book, plane, clients)
        self._clients = clients
        self._about = about
        self._metrics = Metrics(plane, clients, counters, figures)

    def answer(self, method: str, target: str, body: bytes) -> Answer | Text:
        """Answers one request; never raises for what a caller sent."""
        url = urlsplit(target)
        if url.path == METRICS and method == "GET":
            return Text(CONTENT_TYPE, self._metrics.text())
        parts = [unquote(part) for part in url.path.split("/") if part]
        if parts[:1] != ["v1"] or len(parts) < 2:  # noqa: PLR2004 - version and subject
            return _error(_MISSING, f"there is nothing at {url.path[:200]}")
        try:
            return self._find(method, parts[1:], parse_qs(url.query), body)
        except ConfigurationRefused as refused:
            return _error(_REFUSED, *map(str, refused.problems))
        except NoSuchResource as missing:
            return _error(_MISSING, str(missing))
        except StoreError as error:
            return _error(_FAILED, str(error))
        except ConfigurationError as error:
            return _error(_BAD, str(error))

    def _find(self, method: str, parts: list[str], query: Mapping[str, list[str]], body: bytes) -> Answer:
        if parts[0] == "resources":
            return self._resources(method, parts[1:], query, body)
        if method != "GET":
            return _error(_METHOD, f"{method} is not possible on /v1/{'/'.join(parts)[:200]}")
        if parts == ["rollout-report"]:
            return Answer(_OK, self._rollouts.report(query))
        return self._read(parts[0], parts[1:])

    def _read(self, subject: str, rest: list[str]) -> Answer:
        if subject == "status" and not rest:
            clients = list(self._clients())
            rejected = [_rejection(client) for client in clients if any(each.rejected for each in client.subscriptions)]
            seen = {"clients": len(clients), "rejected_by_clients": rejected, "traffic": self._rollouts.traffic()}
            return Answer(_OK, {**self._about(), **health.status(self._plane), **seen})
        if subject == "clients" and not rest:
            return Answer(_OK, [_client(client) for client in self._clients()])
        if subject == "services" and not rest:
            return Answer(_OK, self._plane.hosts())
        if subject in {"routes", "endpoints"} and len(rest) == 1:
            host = rest[0]
            if host not in self._plane.hosts():
                return _error(_MISSING, f"there is no service {host[:253]}; meshctl status counts them")
            return Answer(_OK, self._plane.routes(host) if subject == "routes" else self._plane.endpoints(host))
        return _error(_MISSING, f"there is nothing at /v1/{subject[:200]}")

    def _resources(self, method: str, rest: list[str], query: Mapping[str, list[str]], body: bytes) -> Answer:
        if method == "POST" and not rest:
            return self._apply(body, query.get("file", ["(applied)"])[0][:1_024])
        kind = _kind(rest[0]) if rest else None
        if rest and kind is None:
            return _error(
                _BAD, f"unknown kind {rest[0][:80]!r}; known are {', '.join(each.value for each in ResourceKind)}"
            )
        if method == "GET" and len(rest) != 2:  # noqa: PLR2004 - a kind and a namespace name nothing
            return self._list(kind, rest[1:])
        if method == "DELETE" and kind is not None and len(rest) == 3:  # noqa: PLR2004 - kind, namespace, name
            identity = ResourceId(kind, rest[1], rest[2])
            self._plane.delete(identity)
            return Answer(_OK, {"deleted": str(identity)})
        return _error(_METHOD, f"{method} is not possible there")

    def _list(self, kind: ResourceKind | None, rest: list[str]) -> Answer:
        entries = self._plane.resources(kind)
        if rest:
            entries = [entry for entry in entries if [entry.id.namespace, entry.id.name] == rest]
            if not entries and kind is not None:
                raise NoSuchResource(f"there is no {ResourceId(kind, rest[0], rest[1])}")
        told = statuses(entries, self._plane, self._clients)
        rows = zip(entries, told, strict=True)
        return Answer(_OK, [_entry(entry) | ({"status": status} if status else {}) for entry, status in rows])

    def _apply(self, body: bytes, file: str) -> Answer:
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as error:
            return _error(_BAD, f"{file}:{body[: error.start].count(10) + 1}: is not UTF-8")
        done, warnings = self._plane.apply(text, file)
        return Answer(
            _OK,
            {
                "applied": [{"resource": str(each.id), "outcome": each.outcome} for each in done],
                "warnings": [str(warning) for warning in warnings],
            },
        )


def _kind(text: str) -> ResourceKind | None:
    return next((kind for kind in ResourceKind if kind.value == text), None)


def _entry(entry: Entry) -> dict[str, object]:
    return {
        "kind": entry.id.kind.value,
        "namespace": entry.id.namespace,
        "name": entry.id.name,
        "origin": f"{entry.file}:{entry.first_line}",
        "text": entry.text,
        "body": entry.body(),
    }


def _rejection(client: ClientInfo) -> str:
    texts = [f"{_short(each.type_url)}: {each.nack}" for each in client.subscriptions if each.rejected]
    return f"{client.node.id} ({client.peer}) refuses {'; '.join(texts)}"


def _short(type_url: str) -> str:
    return type_url.rpartition(".")[2].rpartition("/")[2]


def _client(client: ClientInfo) -> dict[str, object]:
    return {
        "node": client.node.id,
        "app": client.node.app,
        "agent": client.node.user_agent,
        "peer": client.peer,
        "transport": client.transport,
        "service": client.service if client.service == "ADS" else _short(client.service),
        "opened_at": client.opened_at,
        "sent": client.sent,
        "subscriptions": [
            {
                "type": _short(each.type_url),
                "names": "all" if each.wildcard else each.names,
                "asked": list(each.asked),
                "held": each.held,
                "state": "rejected" if each.rejected else "waiting" if each.pending else "acknowledged",
                "error": each.nack if each.rejected else "",
            }
            for each in client.subscriptions
        ],
        "nacks": [
            {
                "type": _short(each.type_url),
                "count": each.nacks,
                "at": each.nacked_at,
                "version": each.nack_version,
                "text": each.nack,
                "in_force": each.rejected,
            }
            for each in client.subscriptions
            if each.nacks
        ],
    }
