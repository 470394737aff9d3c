"""What meshsdk uses of Consul's HTTP API, true to its protocol, for where no real Consul is at hand.

Run as a process (`python consul_fake.py PORT JOURNAL [TOKEN] [PEM]`), so that it can be killed and frozen; its journal
brings back its data, with the same indexes. With a token it refuses requests without; with a PEM file it serves https.
Blocking queries, indexes per service, checks of a time to live, keys, and the limits and error codes of the real one.
The contract suite runs against both (`make test-peers`), so that neither drifts.
"""

from __future__ import annotations

import base64
import json
import re
import signal
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

NODE = {"Node": "one", "Address": "127.0.0.1", "Datacenter": "dc1", "ModifyIndex": 2}
NODE_CHECK = {"Node": "one", "CheckID": "serfHealth", "Status": "passing", "ServiceID": "", "ModifyIndex": 2}
CONSUL_SERVICE = {"ID": "consul", "Service": "consul", "Port": 8300, "Weights": {"Passing": 1, "Warning": 1}}
CONSUL = {"Node": NODE, "Service": {**CONSUL_SERVICE, "Meta": {}, "ModifyIndex": 3}, "Checks": [NODE_CHECK]}
META_KEY = re.compile(r"[A-Za-z0-9_-]{1,128}")
FILTER = re.compile(r'Service\.Meta\["meshsdk_unit"\] == "([^"]*)"')
DURATION = re.compile(r"([0-9.]+)(ms|s|m|h)")
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """Reads a duration of Go, of one unit."""
    number, unit = DURATION.fullmatch(text).groups()
    return float(number) * UNITS[unit]


class Refused(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class State:
    """Services, checks and keys. All is guarded by `changed`, which is notified of every change."""

    def __init__(self, journal: Path) -> None:
        self.changed = threading.Condition()
        self.index = 10
        self.services = {}  # id -> registration, with ModifyIndex
        self.checks = {}  # id -> check
        self.keys = {}  # key -> (index, value)
        self.moved = {"services": 10, "checks": 10, "keys": 10}  # table -> index of its last change
        self.service_moved = {}  # name -> index of the last change of a service
        self._journal = None
        if journal.exists():
            for line in journal.read_text().splitlines():
                self.apply(json.loads(line))
        self._journal = journal.open("a")

    def apply(self, change: dict) -> None:
        """Makes a change and writes it down."""
        with self.changed:
            getattr(self, f"_{change['do']}")(change)
            if self._journal is not None:
                self._journal.write(json.dumps(change) + "\n")
                self._journal.flush()
            self.changed.notify_all()

    def _touch(self, name: str, *tables: str) -> int:
        self.index += 1
        for table in tables:
            self.moved[table] = self.index
        if name:
            self.service_moved[name] = self.index
        return self.index

    def _register(self, change: dict) -> None:
        body = dict(change["body"])
        identifier, check = body["ID"], body.pop("Check", None)
        before = self.services.get(identifier)
        same = before is not None and {**before, "ModifyIndex": 0} == {**body, "ModifyIndex": 0}
        if not same:
            index = self._touch(body["Name"], "services")
            self.services[identifier] = {**body, "ModifyIndex": index}
        if change["replace"]:
            stale = [c["CheckID"] for c in self.checks.values() if c["ServiceID"] == identifier]
            for old in stale:
                if check is None or old != check["CheckID"]:
                    del self.checks[old]
                    self._touch(body["Name"], "checks")
        if check is not None:
            ttl = seconds(check["TTL"])
            self._put_check(
                check["CheckID"],
                {
                    "Node": "one",
                    "CheckID": check["CheckID"],
                    "ServiceID": identifier,
                    "ServiceName": body["Name"],
                    "Status": check.get("Status", "critical"),
                    "Notes": check.get("Notes", ""),
                    "TTL": ttl,
                    "Reap": seconds(check.get("DeregisterCriticalServiceAfter", "0s")),
                    "Until": change["at"] + ttl,
                },
            )

    def _put_check(self, identifier: str, check: dict) -> None:
        before = self.checks.get(identifier, {})
        visible = ("Status", "Notes")
        if not before or any(before[name] != check[name] for name in visible):
            check["ModifyIndex"] = self._touch(check["ServiceName"], "checks")
        else:
            check["ModifyIndex"] = before["ModifyIndex"]
        self.checks[identifier] = check

    def _update(self, change: dict) -> None:
        check = self.checks.get(change["id"])
        if check is not None:
            self._put_check(change["id"], {**check, "Status": change["status"], "Until": change["at"] + check["TTL"]})

    def _expire(self, change: dict) -> None:
        check = self.checks.get(change["id"])
        if check is not None:
            self._put_check(change["id"], {**check, "Status": "critical"})

    def _deregister(self, change: dict) -> None:
        service = self.services.pop(change["id"], None)
        if service is not None:
            self._touch(service["Name"], "services", "checks")
        self.checks = {name: check for name, check in self.checks.items() if check["ServiceID"] != change["id"]}

    def _key(self, change: dict) -> None:
        index = self._touch("", "keys")
        self.keys[change["key"]] = (index, base64.b64decode(change["value"]))

    def _drop_keys(self, change: dict) -> None:
        self._touch("", "keys")
        self.keys = {key: value for key, value in self.keys.items() if not key.startswith(change["prefix"])}

    def pass_time(self) -> None:
        """Expires checks, and removes services that have long been critical. Never returns."""
        while True:
            time.sleep(0.05)
            now = time.time()
            with self.changed:
                late = [c for c in self.checks.values() if c["Until"] <= now]
            for check in late:
                if check["Status"] != "critical":
                    self.apply({"do": "expire", "id": check["CheckID"]})
                elif check["Reap"] and check["Until"] + check["Reap"] <= now:
                    self.apply({"do": "deregister", "id": check["ServiceID"]})

    def entries(self, name: str) -> list:
        """Returns health/service/NAME."""
        found = [CONSUL] if name == "consul" else []
        for identifier, service in self.services.items():
            if service["Name"] == name:
                own = [check for check in self.checks.values() if check["ServiceID"] == identifier]
                shown = {**service, "Service": service["Name"]}
                del shown["Name"]
                found.append({"Node": NODE, "Service": shown, "Checks": [NODE_CHECK, *own]})
        return found


class Handler(BaseHTTPRequestHandler):
    """One connection. `state` is set on the class."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body go out together
    state: State
    token = ""

    def log_message(self, *_: object) -> None:
        """Writes nothing."""

    def do_GET(self) -> None:
        """Answers a read."""
        self._answer(self._get)

    def do_PUT(self) -> None:
        """Answers a write."""
        self._answer(self._put)

    def do_DELETE(self) -> None:
        """Removes keys."""
        self._answer(self._delete)

    def _answer(self, method) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self._permit()
            index, content = method(url.path, query, body)
            status = 200
        except Refused as refused:
            index, content, status = 0, str(refused).encode(), refused.status
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        if index:
            self.send_header("X-Consul-Index", str(index))
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        self.wfile.flush()

    def _permit(self) -> None:
        if self.token and self.headers.get("X-Consul-Token") != self.token:
            raise Refused(403, "Permission denied: anonymous token lacks permission")

    def _get(self, path: str, query: dict, _: bytes):
        state = self.state
        if path.startswith("/v1/health/service/"):
            name = unquote(path.removeprefix("/v1/health/service/"))
            index = self._await(query, lambda: state.service_moved.get(name, 10))
            wanted = FILTER.fullmatch(query["filter"]) if "filter" in query else None
            if "filter" in query and wanted is None:
                raise Refused(400, f"this fake does not know the filter {query['filter']}")
            with state.changed:
                entries = state.entries(name)
            if wanted is not None:
                unit = wanted.group(1)
                entries = [entry for entry in entries if entry["Service"].get("Meta", {}).get("meshsdk_unit") == unit]
            return index, entries
        if path == "/v1/health/state/any":
            index = self._await(query, lambda: state.moved["checks"])
            with state.changed:
                return index, [NODE_CHECK, *state.checks.values()]
        if path == "/v1/catalog/services":
            index = self._await(query, lambda: state.moved["services"])
            with state.changed:
                names = {service["Name"] for service in state.services.values()}
                return index, {"consul": [], **{name: self._tags(name) for name in names}}
        if path == "/v1/agent/services":
            with state.changed:
                return 0, dict(state.services)
        if path.startswith("/v1/kv/"):
            return self._read_keys(unquote(path.removeprefix("/v1/kv/")), query)
        raise Refused(404, f"this fake does not know {path}")

    def _tags(self, name: str) -> list:
        services = self.state.services.values()
        return sorted({tag for service in services if service["Name"] == name for tag in service.get("Tags") or ()})

    def _read_keys(self, key: str, query: dict):
        state = self.state
        with state.changed:
            if "keys" in query:
                found = [known for known in state.keys if known.startswith(key)]
                if not found:
                    raise Refused(404, "")
                return state.moved["keys"], found
            if key not in state.keys:
                raise Refused(404, "")
            return state.keys[key]

    def _await(self, query: dict, current) -> int:
        """Waits until the index is beyond the one that the client knows, or the client's wait is over."""
        known = int(query.get("index") or 0)
        with self.state.changed:
            if known:
                self.state.changed.wait_for(lambda: current() > known, seconds(query.get("wait") or "5m"))
            return current()

    def _put(self, path: str, query: dict, body: bytes):
        now = time.time()
        if path == "/v1/agent/service/register":
            registration = json.loads(body)
            self._check_meta(registration.get("Meta") or {})
            registration.setdefault("ID", registration["Name"])
            change = {"do": "register", "body": registration, "replace": "replace-existing-checks" in query, "at": now}
            self.state.apply(change)
        elif path.startswith("/v1/agent/service/deregister/"):
            identifier = unquote(path.removeprefix("/v1/agent/service/deregister/"))
            if identifier not in self.state.services:
                raise Refused(404, f"Unknown service ID {identifier!r}")
            self.state.apply({"do": "deregister", "id": identifier})
        elif path.startswith("/v1/agent/check/update/"):
            identifier = unquote(path.removeprefix("/v1/agent/check/update/"))
            if identifier not in self.state.checks:
                raise Refused(404, f"Unknown check ID {identifier!r}")
            self.state.apply({"do": "update", "id": identifier, "status": json.loads(body)["Status"], "at": now})
        elif path.startswith("/v1/kv/"):
            if len(body) > 512 * 1024:
                raise Refused(413, f"Request body({len(body)} bytes) too large, max size: 524288 bytes")
            key = unquote(path.removeprefix("/v1/kv/"))
            self.state.apply({"do": "key", "key": key, "value": base64.b64encode(body).decode()})
            return 0, True
        else:
            raise Refused(404, f"this fake does not know {path}")
        return 0, b""

    def _delete(self, path: str, _: dict, __: bytes):
        self.state.apply({"do": "drop_keys", "prefix": unquote(path.removeprefix("/v1/kv/"))})
        return 0, True

    @staticmethod
    def _check_meta(meta: dict) -> None:
        if len(meta) > 64:
            raise Refused(400, "Invalid Service Meta: Node metadata cannot contain more than 64 key/value pairs")
        for key, value in meta.items():
            if not META_KEY.fullmatch(key) or len(value.encode()) > 512:
                raise Refused(400, f"Invalid Service Meta: Couldn't load metadata pair ({key!r}, {value!r})")


class Server(ThreadingHTTPServer):
    """Ends with its process, whatever waits."""

    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    """Serves until it is killed; prints a line when it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Handler.state = State(Path(sys.argv[2]))
    Handler.token = "".join(sys.argv[3:4])
    server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
    if len(sys.argv) > 4:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[4])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=Handler.state.pass_time, daemon=True).start()
    print("serving", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
