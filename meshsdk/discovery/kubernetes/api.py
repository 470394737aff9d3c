"""Requests to an API server over HTTP: JSON in and out, and streams of watch events. Called by all modules beside it.

Knows how to log in (tokens and certificates are read anew when they rotate), how long to wait and how much to take.
What a resource means is the caller's. Usable from any thread; dials at the first request.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import urllib3

from meshsdk.discovery.following import RegistryClosed
from meshsdk.discovery.kubernetes.login import Login
from meshsdk.discovery.kubernetes.place import Place
from meshsdk.errors import RegistryError

JsonObject = dict[str, object]
WHOLE = "application/json"
_MAX_ANSWER = 64 * 1024 * 1024  # bytes; a page of 500 slices of 1,000 endpoints is about half of that
_MAX_EVENT = 8 * 1024 * 1024  # bytes; etcd below takes objects of 1.5 MiB
_MAX_WORDS = 300  # characters of the server's in a message
_PIECE = 64 * 1024
_WATCH_SECONDS = 240  # after which the server ends a watch and we go on from where it was
_SILENCE = 30  # seconds after that in which a server that is alive has ended it
# A server that vanished without a FIN is noticed in the middle of a watch.
_SOCKET_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]


class Refused(RegistryError):
    """The server answered and said no. `status` is HTTP's, `retry_after` seconds (0: it did not say)."""

    def __init__(self, words: str, status: int, retry_after: float = 0.0) -> None:
        super().__init__(words)
        self.status = status
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a watch: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR, and its object."""

    kind: str
    object: JsonObject


class ApiServer:
    """The connections to one API server."""

    def __init__(self, place: Place) -> None:
        self.words = place.words
        self._login = place.login
        self._timeout = place.timeout
        self._lock = threading.Lock()
        self._pool: urllib3.PoolManager | None = None  # guarded by _lock
        self._files: tuple[int, ...] = ()  # when the files that `_pool` was made of were written; guarded by _lock
        self._closed = False  # guarded by _lock

    def ask(
        self, verb: str, method: str, path: str, query: Mapping[str, str] | None = None, body: JsonObject | None = None
    ) -> JsonObject:
        """Returns the answer's object. `verb` begins messages: "cannot {verb} Kubernetes ...".

        Raises Refused for an answer that is none, and RegistryError for no answer in time.
        """
        return self._json(verb, self._request(verb, method, path, query or {}, WHOLE, body))

    def get(self, verb: str, path: str, query: Mapping[str, str], accept: str) -> JsonObject:
        """Returns a page in the representation that `accept` names. Raises as `ask`."""
        return self._json(verb, self._request(verb, "GET", path, query, accept, None))

    def watch(self, verb: str, path: str, query: Mapping[str, str], accept: str) -> EventStream:
        """Opens a watch. Raises as `ask`."""
        asked = {**query, "watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(_WATCH_SECONDS)}
        response = self._request(verb, "GET", path, asked, accept, None, silence=_WATCH_SECONDS + _SILENCE)
        if response.status != 200:  # noqa: PLR2004 - HTTP's OK
            self._json(verb, response)
        return EventStream(response, f"cannot {verb} {self.words}")

    def close(self) -> None:
        """Asks nothing more; idempotent. Streams end by their own `shutdown`."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.clear()

    def _request(
        self,
        verb: str,
        method: str,
        path: str,
        query: Mapping[str, str],
        accept: str,
        body: JsonObject | None,
        silence: float = 0.0,
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": accept, "User-Agent": "meshsdk", **self._authorization(verb)}
        data = None
        if body is not None:
            headers["Content-Type"] = WHOLE
            data = json.dumps(body, separators=(",", ":")).encode()
        url = f"{self._login.server}{path}"
        if query:
            url = f"{url}?{urlencode(query, quote_via=quote)}"
        timeout = urllib3.Timeout(connect=self._timeout, read=silence or self._timeout)
        pool = self._connections(verb)
        try:
            return pool.request(
                method, url, body=data, headers=headers, timeout=timeout, preload_content=False, redirect=False
            )
        except (urllib3.exceptions.HTTPError, ssl.SSLError, OSError) as error:
            raise RegistryError(f"cannot {verb} {self.words}: {_short(error)}") from None

    def _json(self, verb: str, response: urllib3.BaseHTTPResponse) -> JsonObject:
        """Makes an object of an answer. Raises as `ask`."""
        try:
            answer = json.loads(self._read(response))
        except (ValueError, RecursionError):
            answer = None
        except (urllib3.exceptions.HTTPError, OSError, RegistryError) as error:
            raise RegistryError(f"cannot {verb} {self.words}: {_short(error)}") from None
        if response.status >= 300:  # noqa: PLR2004 - HTTP's range for all that is not done
            words = answer.get("message") if isinstance(answer, dict) else ""
            text = f"cannot {verb} {self.words}: {response.status} {str(words or response.reason)[:_MAX_WORDS]}"
            raise Refused(text, response.status, _seconds(response.headers.get("Retry-After", "")))
        if not isinstance(answer, dict):
            raise RegistryError(f"cannot {verb} {self.words}: the answer is not a JSON object")
        return answer

    def _read(self, response: urllib3.BaseHTTPResponse) -> bytes:
        """Reads an answer to its end, within the timeout and the limit."""
        deadline = time.monotonic() + self._timeout
        pieces: list[bytes] = []
        size = 0
        with contextlib.ExitStack() as failed:
            failed.callback(response.close)  # its rest must not be taken for the next answer
            for piece in response.stream(_PIECE):
                size += len(piece)
                pieces.append(piece)
                if size > _MAX_ANSWER:
                    raise RegistryError(f"the answer is larger than {_MAX_ANSWER} bytes")
                if time.monotonic() > deadline:
                    raise RegistryError(f"the answer takes longer than {self._timeout:g} s")
            failed.pop_all()
        response.release_conn()
        return b"".join(pieces)

    def _authorization(self, verb: str) -> dict[str, str]:
        token = self._login.token
        if self._login.token_file:
            try:
                token = Path(self._login.token_file).read_text(encoding="ascii").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise RegistryError(f"cannot {verb} {self.words}: {self._login.token_file}: {error}") from None
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _connections(self, verb: str) -> urllib3.PoolManager:
        """Returns the pool, a new one when a certificate has been replaced."""
        files = [name for name in (self._login.ca_file, self._login.cert_file, self._login.key_file) if name]
        with self._lock:
            if self._closed:
                raise RegistryClosed(f"cannot {verb} {self.words}: the registry is closed")
            try:
                written = tuple(Path(name).stat().st_mtime_ns for name in files)
                if self._pool is None or written != self._files:
                    self._pool = urllib3.PoolManager(
                        maxsize=8,
                        retries=False,
                        socket_options=_SOCKET_OPTIONS,
                        ssl_context=_tls(self._login) if self._login.server.startswith("https") else None,
                    )
                    self._files = written
            except (OSError, ssl.SSLError) as error:
                raise RegistryError(f"cannot {verb} {self.words}: TLS: {error}") from None
            return self._pool


class EventStream:
    """The events of one watch. Read by one thread; `shutdown` is called by any."""

    def __init__(self, response: urllib3.BaseHTTPResponse, words: str) -> None:
        self._response = response
        self._words = words

    def batches(self) -> Iterator[list[Event]]:
        """Yields the events as they arrive, those that arrived together in one list; ends as the server ends it.

        Raises RegistryError when the connection breaks, and for what is no event.
        """
        rest = b""
        try:
            for piece in self._response.stream(_PIECE):
                *lines, rest = (rest + piece).split(b"\n")
                if len(rest) > _MAX_EVENT:
                    raise RegistryError(f"{self._words}: an event is larger than {_MAX_EVENT} bytes")
                if events := [self._event(line) for line in lines if line.strip()]:
                    yield events
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise RegistryError(f"{self._words}: {_short(error)}") from None
        finally:
            self._response.close()

    def shutdown(self) -> None:
        """Ends the stream, also while another thread waits for it."""
        with contextlib.suppress(ValueError, RuntimeError, OSError):  # it has ended already
            self._response.shutdown()

    def _event(self, line: bytes) -> Event:
        try:
            raw = json.loads(line)
        except (ValueError, RecursionError):
            raw = None
        if not (isinstance(raw, dict) and isinstance(raw.get("type"), str) and isinstance(raw.get("object"), dict)):
            raise RegistryError(f"{self._words}: {line[:_MAX_WORDS]!r} is not a watch event")
        return Event(raw["type"], raw["object"])


def _tls(login: Login) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=login.ca_file or None, cadata=login.ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if login.cert_file:
        context.load_cert_chain(login.cert_file, login.key_file)
    elif login.cert:
        # Python reads certificates from files alone; this one is gone before anything else happens.
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as pem:  # mode 0600
            pem.write(f"{login.cert}\n{login.key}\n")
            pem.flush()
            context.load_cert_chain(pem.name)
    return context


def _short(error: Exception) -> str:
    """What urllib3 says, without the pool and the addresses of objects in it."""
    reason = getattr(error, "reason", None) or error
    return str(reason).rpartition(">: ")[2][:_MAX_WORDS] or type(error).__name__


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0.0  # noqa: PLR2004 - digits
