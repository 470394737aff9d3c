"""An API server for tests that speaks the list and watch protocol of Kubernetes truly; a process of its own.

`kmock` (PyPI), which the issue names, was tried first: its 0.8 answers lists with `resourceVersion: "..."`, knows no
410, no bookmarks, no `limit`/`continue` and no PartialObjectMetadata, and needs Python 3.11; so this is made of the
standard library. What it does as the real one: resource versions of objects and lists, optimistic locking and
preconditions, watches from a version with ADDED, MODIFIED, DELETED, BOOKMARK and ERROR 410, selectors on watches (an
object that no longer matches is DELETED), pages with `continue` that expire, Status objects, validation of what this
project writes, garbage collection by owner, bearer tokens, RBAC by a Role, TLS. Data survives a kill; the watch history
does not, as in a real server's watch cache.

Run as a script it serves; `KubernetesFake` starts that script, breaks it, and changes what it holds.
"""

from __future__ import annotations

import json
import ssl
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import urllib3

if __name__ == "__main__":  # the script of a child process
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.servers.kubernetes_store import KINDS, ApiError, Change, Json, Kind, Selector, Store, expired
from tests.servers.process import ServerProcess

_VERBS = {"POST": "create", "PUT": "update", "DELETE": "delete"}


class Api:
    """What the server's threads share."""

    def __init__(self, options: Json) -> None:
        self.options = options
        self.changed = threading.Condition()
        self.store = Store(Path(options["journal"]))  # guarded by `changed`, as is all below
        self.store.load()
        self.generation = 0  # watches of an older one end
        self.refusals: list[int] = []  # statuses that the next requests are refused with
        self.requests: list[str] = []  # "verb path?query" of all requests, with "(metadata)" if that is enough
        self.hold: dict[str, float] = {}  # seconds that requests for a resource take
        self.bookmarks = 0  # sent, roughly: counted by several threads
        self.gone_as_status = False  # a watch from too long ago: HTTP 410 instead of an ERROR event

    def authorize(self, verb: str, plural: str, headers: Any) -> None:
        """Authentication by a token file, authorization by the rules of a Role."""
        token_file = self.options.get("token_file")
        if token_file and headers.get("Authorization") != f"Bearer {Path(token_file).read_text().strip()}":
            raise ApiError(401, "Unauthorized", "Unauthorized")
        rules = self.options.get("rules")
        if rules is not None and not any(verb in rule["verbs"] and plural in rule["resources"] for rule in rules):
            raise ApiError(403, "Forbidden", f'{plural} is forbidden: User "test" cannot {verb} resource "{plural}"')


@dataclass(frozen=True)
class _Watch:
    """What one watch asked for."""

    kind: Kind
    namespace: str
    selector: Selector
    partial: bool
    bookmarks: bool


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    api: Api

    def log_message(self, *_: object) -> None:
        """Writes nothing."""

    def do_GET(self) -> None:
        """Get, list, watch."""
        self._serve()

    def do_POST(self) -> None:
        """Create."""
        self._serve()

    def do_PUT(self) -> None:
        """Update."""
        self._serve()

    def do_DELETE(self) -> None:
        """Delete."""
        self._serve()

    def _serve(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size) or b"{}")
        if url.path.startswith("/fake/"):
            self._answer(200, self._control(url.path.removeprefix("/fake/"), body))
            return
        try:
            self._resource(url.path, query, body)
        except ApiError as error:
            extra = {"Retry-After": str(error.details["retry"])} if "retry" in error.details else {}
            self._answer(error.code, error.status(), extra)

    def _resource(self, path: str, query: dict[str, str], body: Json) -> None:
        kind, namespace, name = _parse(path)
        verb = _VERBS.get(self.command) or ("watch" if query.get("watch") else "get" if name else "list")
        api, store = self.api, self.api.store
        with api.changed:
            partial = " (metadata)" if "as=PartialObjectMetadata" in self.headers.get("Accept", "") else ""
            api.requests.append(f"{verb} {self.path}{partial}")
            api.authorize(verb, kind.plural, self.headers)
            if api.refusals and (code := api.refusals.pop(0)):  # 0 lets a request pass
                raise ApiError(code, "Refused", f"refused with {code}", **({"retry": 1} if code == 429 else {}))
        time.sleep(api.hold.get(kind.plural, 0.0))
        if verb == "watch":
            self._watch(kind, namespace, query)
            return
        with api.changed:
            match verb:
                case "get":
                    answer = (200, store.get(kind.plural, namespace, name))
                case "list":
                    answer = (200, self._list(kind, namespace, query))
                case "create":
                    answer = (201, store.create(kind.plural, namespace, body))
                case "update":
                    answer = (200, store.replace(kind.plural, namespace, name, body))
                case _:
                    answer = (200, store.delete(kind.plural, namespace, name, body))
            api.changed.notify_all()
        self._answer(*answer)

    def _list(self, kind: Kind, namespace: str, query: dict[str, str]) -> Json:
        metadata, items = self.api.store.page(kind.plural, namespace, Selector(query.get("labelSelector", "")), query)
        if "as=PartialObjectMetadataList" in self.headers.get("Accept", ""):
            items = [_partial(item) for item in items]
            return {
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "items": items,
            }
        return {"kind": f"{kind.kind}List", "apiVersion": kind.group_version, "metadata": metadata, "items": items}

    def _watch(self, kind: Kind, namespace: str, query: dict[str, str]) -> None:
        api = self.api
        selector = Selector(query.get("labelSelector", ""))
        partial = "as=PartialObjectMetadata" in self.headers.get("Accept", "")
        version = int(query["resourceVersion"])
        ends = time.monotonic() + float(query.get("timeoutSeconds", "300"))
        with api.changed:
            if version < api.store.oldest and api.gone_as_status:
                raise expired(f"too old resource version: {version} ({api.store.oldest})")
        self.send_response(200)
        self.send_header("Content-Type", "application/json;stream=watch")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._follow(_Watch(kind, namespace, selector, partial, bool(query.get("allowWatchBookmarks"))), version, ends)
        self._chunk(b"")

    def _follow(self, watch: _Watch, version: int, ends: float) -> None:
        """Sends what happens, until the time is over, the tests end it, or the client is gone."""
        api, kind = self.api, watch.kind
        generation, pause = api.generation, float(api.options["bookmark_seconds"])
        bookmark = time.monotonic() + pause
        while time.monotonic() < ends and api.generation == generation:
            with api.changed:
                try:
                    changes = list(api.store.since(version, kind.plural, watch.namespace))
                except ApiError as error:
                    self._events([{"type": "ERROR", "object": error.status()}])
                    return
                latest = api.store.version
                if not changes and time.monotonic() < bookmark:
                    api.changed.wait(max(0.0, min(ends, bookmark) - time.monotonic()))
                    continue
            events = [event for change in changes for event in _event(change, watch.selector)]
            if watch.partial:
                events = [{**event, "object": _partial(event["object"])} for event in events]
            version = latest
            if time.monotonic() >= bookmark:
                bookmark = time.monotonic() + pause
                if watch.bookmarks:
                    api.bookmarks += 1
                    metadata = {"resourceVersion": str(latest), "creationTimestamp": None}
                    kinds = {"kind": kind.kind, "apiVersion": kind.group_version}
                    events.append({"type": "BOOKMARK", "object": {**kinds, "metadata": metadata}})
            if not self._events(events):
                self.close_connection = True
                return

    def _events(self, events: list[Json]) -> bool:
        return not events or self._chunk(b"".join(json.dumps(event).encode() + b"\n" for event in events))

    def _chunk(self, data: bytes) -> bool:
        try:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.flush()
        except OSError:
            return False
        return True

    def _answer(self, code: int, answer: Json, extra: dict[str, str] | None = None) -> None:
        data = json.dumps(answer).encode()
        self.send_response(code)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **(extra or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(data)
        except OSError:
            self.close_connection = True

    def _control(self, command: str, body: Json) -> Json:
        """What tests do to the server beside the API."""
        api = self.api
        with api.changed:
            if command == "compact":
                api.store.compact()
            elif command == "end_watches":
                api.generation += 1
            elif command == "refuse":
                api.refusals += body["codes"]
            elif command == "hold":
                api.hold[body["plural"]] = body["seconds"]
            elif command == "gone_as_status":
                api.gone_as_status = body["value"]
            elif command == "requests":
                requests, api.requests = api.requests, []
                return {"requests": requests}
            elif command == "state":
                return {"bookmarks": api.bookmarks, "version": api.store.version}
            api.changed.notify_all()
        return {}


def _parse(path: str) -> tuple[Kind, str, str]:
    parts = path.strip("/").split("/")
    for prefix in (["api", "v1"], ["apis", "discovery.k8s.io", "v1"]):
        if parts[: len(prefix)] == prefix:
            match parts[len(prefix) :]:
                case ["namespaces", namespace, plural, *name] if plural in KINDS and len(name) < 2:
                    if KINDS[plural].group_version == "/".join(prefix[1:]):
                        return KINDS[plural], namespace, name[0] if name else ""
    raise ApiError(404, "NotFound", "the server could not find the requested resource")


def _event(change: Change, selector: Selector) -> list[Json]:
    """A change as a watch with a selector sees it."""
    was = change.before is not None and selector.matches(change.before)
    now = change.after is not None and selector.matches(change.after)
    if now:
        return [{"type": "MODIFIED" if was else "ADDED", "object": change.after}]
    if not was:
        return []
    gone = dict(change.before or {})
    gone["metadata"] = {**gone["metadata"], "resourceVersion": str(change.version)}
    return [{"type": "DELETED", "object": gone}]


def _partial(item: Json) -> Json:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}


def _main() -> None:
    options = json.loads(sys.argv[1])
    Handler.api = Api(options)
    server = ThreadingHTTPServer(("127.0.0.1", options["port"]), Handler)
    server.daemon_threads = True
    if options.get("cert"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options["cert"], options["key"])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


class KubernetesFake(ServerProcess):
    """The server as a process. `options`: token_file, rules (of a Role), cert and key (files), bookmark_seconds."""

    kind = "Kubernetes"

    def __init__(self, **options: Any) -> None:
        super().__init__()
        journal = str(self.folder / "journal")
        self._options = {"port": self.port, "journal": journal, "bookmark_seconds": 0.5, **options}
        self._http = urllib3.PoolManager(retries=False, ca_certs=options.get("cert"))

    def remove(self) -> None:
        """Ends it and removes its data."""
        super().remove()
        self._http.clear()

    # -- what a cluster does ----------------------------------------------------------------------------------------

    def ask(self, method: str, path: str, body: Json | None = None) -> Json:
        """One request to the API, past its rights and refusals being somebody else's; fails when it is refused."""
        server = f"https://localhost:{self.port}" if self._options.get("cert") else f"http://{self.address}"
        token_file = self._options.get("token_file")
        headers = {"Authorization": f"Bearer {Path(token_file).read_text().strip()}"} if token_file else {}
        url = f"{server}{path}"
        answer = self._http.request(method, url, json=body, headers=headers, timeout=10)
        assert answer.status < 300, answer.json()
        return answer.json()

    def control(self, command: str, **body: Any) -> Json:
        """compact, end_watches, refuse(codes), gone_as_status(value), hold(plural, seconds), requests, state."""
        return self.ask("POST", f"/fake/{command}", body)

    def create(self, plural: str, namespace: str, item: Json) -> Json:
        """Creates an object."""
        return self.ask("POST", path_of(plural, namespace), item)

    def replace(self, plural: str, namespace: str, item: Json) -> Json:
        """Replaces an object."""
        return self.ask("PUT", f"{path_of(plural, namespace)}/{item['metadata']['name']}", item)

    def delete(self, plural: str, namespace: str, name: str) -> Json:
        """Removes an object, and with it what it owns."""
        return self.ask("DELETE", f"{path_of(plural, namespace)}/{name}")

    def _command(self) -> list[str]:
        return [sys.executable, str(Path(__file__).resolve()), json.dumps(self._options)]

    def _answers(self) -> bool:
        try:
            self.control("ping")
        except urllib3.exceptions.HTTPError as error:
            raise AssertionError(str(error)) from None
        return True


def path_of(plural: str, namespace: str) -> str:
    """Returns the path of a collection."""
    group = KINDS[plural].group_version
    return f"/{'api' if group == 'v1' else 'apis'}/{group}/namespaces/{namespace}/{plural}"


if __name__ == "__main__":
    _main()
