"""The connection of a registry to a Nacos server: found, set up, kept, and made anew when it breaks.

Called by `registry` and its parts. A connection is what holds registrations and subscriptions in Nacos 2 and 3: when it
ends, the server forgets both. So each has a number, its epoch, by which they know whether what they did still counts.
What to do when a new one is there is theirs (`on_up`); this only carries.

The gRPC protocol of Nacos: ServerCheckRequest (unary), then ConnectionSetupRequest on a stream in both directions, on
which the server asks and the client answers; everything the client asks is unary. A connection that the server has not
registered yet answers 301.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import grpc

from meshsdk.discovery.following import Following, RegistryClosed
from meshsdk.discovery.nacos.login import Login
from meshsdk.discovery.nacos.place import Place, Server
from meshsdk.discovery.nacos.wire import JsonObject, Message, decode, encode
from meshsdk.errors import RegistryError
from meshsdk.version import VERSION

_UNREGISTERED = 301
_OK = 200
_SETTLING = 0.02  # seconds between two looks whether the server has registered the connection
_DENIED = 403
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 2000),  # how long core waits for a connection to come up
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),  # a push has all instances of a service
    ("grpc.use_local_subchannel_pool", 1),
)
# No gRPC keepalive: Nacos closes connections that ping more often than every five minutes. `HealthCheckRequest` is
# the protocol's own.
_REQUEST = "/Request/request"
_STREAM = "/BiRequestStream/requestBiStream"


class Unanswered(RegistryError):
    """The server did not answer; the connection may be gone."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answered, on the connection numbered `epoch`."""

    body: Message
    epoch: int


@dataclass(frozen=True, slots=True)
class _Line:
    """One connection. `out` holds what is still to be written to the stream; None ends it."""

    epoch: int
    channel: grpc.Channel
    out: queue.SimpleQueue[bytes | None] = field(default_factory=queue.SimpleQueue)


class Session:
    """The connections of one registry, one after the other. Starts with the first question.

    `on_up` is called on the session's thread when a connection is there, before anything is heard from it, with its
    epoch. `on_push` is told of a service's instances. Neither must raise or ask anything.
    """

    def __init__(self, place: Place, on_up: Callable[[int], None], on_push: Callable[[JsonObject], None]) -> None:
        self.words = place.words
        self._place = place
        self._on_up = on_up
        self._on_push = on_push
        self._login = Login(place)
        self._changed = threading.Condition()
        self._line: _Line | None = None  # guarded by _changed; the connection that is set up
        self._epochs = 0  # guarded by _changed
        self._state = "new"  # guarded by _changed; then "started" and "closed"
        self._next = random.randrange(len(place.servers))  # owned by the session's thread
        self._following = Following(f"session with {self.words}", self._follow)

    @property
    def epoch(self) -> int:
        """The number of the connection that is up, 0 while there is none."""
        with self._changed:
            return self._line.epoch if self._line is not None else 0

    @property
    def live(self) -> bool:
        """Whether it is not closed."""
        return self._following.live

    @property
    def problem(self) -> str:
        """Why there is no connection, "" while there is one."""
        return self._following.problem

    def start(self) -> None:
        """Begins to connect, unless it has."""
        with self._changed:
            if self._state != "new":
                return
            self._state = "started"
        self._following.start()

    def ask(self, verb: str, kind: str, fields: JsonObject) -> Answer:
        """Asks the server, waiting for a connection within the timeout. `verb` begins messages: "cannot {verb} Nacos".

        Raises RegistryError for an answer that is an error, and Unanswered for none in time.
        """
        deadline = time.monotonic() + self._place.timeout
        line = self._up(verb, deadline)
        left = max(0.05, deadline - time.monotonic())
        try:
            answer = self._exchange(line.channel, Message(kind, fields), left)
        except grpc.RpcError as error:
            text = f"cannot {verb} {self.words}: {error.code().name}: {error.details()}"
            raise Unanswered(text) from None
        except ValueError as error:  # grpc's word for a closed channel
            raise Unanswered(f"cannot {verb} {self.words}: the connection has just ended ({error})") from None
        if answer.number("resultCode") not in {0, _OK} or answer.kind == "ErrorResponse":
            code = answer.number("errorCode")
            if code == _UNREGISTERED:
                self.drop(line.epoch)
            elif code == _DENIED:
                self._login.forget()
            raise Rejected(f"cannot {verb} {self.words}: {code} {answer.text('message')[:300]}", code)
        return Answer(answer, line.epoch)

    def drop(self, epoch: int) -> None:
        """Ends the connection of that number, so that a new one is made."""
        with self._changed:
            line = self._line
        if line is not None and line.epoch == epoch:
            line.channel.close()

    def close(self) -> None:
        """Ends it for good; idempotent."""
        with self._changed:
            self._state = "closed"
            self._changed.notify_all()
        self._following.cancel()
        self._following.join(self._place.timeout)

    # -- on the asker's thread --------------------------------------------------------------------------------------

    def _up(self, verb: str, deadline: float) -> _Line:
        self.start()
        with self._changed:
            while self._line is None and self._state != "closed":
                if not self._changed.wait(deadline - time.monotonic()) and self._line is None:
                    problem = self._following.problem or "no connection in time"
                    raise Unanswered(f"cannot {verb} {self.words}: {problem}")
            if self._state == "closed":
                raise RegistryClosed(f"cannot {verb} {self.words}: the registry is closed")
            line = self._line
        assert line is not None  # noqa: S101 - the loop ended by it
        return line

    def _exchange(self, channel: grpc.Channel, message: Message, timeout: float) -> Message:
        raw = encode(message, self._login.headers(timeout), "")
        method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_REQUEST)
        return decode(method(raw, timeout=timeout))

    # -- on the session's thread ------------------------------------------------------------------------------------

    def _follow(self, following: Following) -> None:
        server = self._place.servers[self._next % len(self._place.servers)]
        self._next += 1
        line = self._dial(server)
        following.interruptible(line.channel.close)
        try:
            self._set_up(line, following)
        except grpc.RpcError as error:
            raise RegistryError(f"{server.grpc}: {error.code().name}: {error.details()}") from None
        except ValueError:  # grpc's word for a channel that was closed here
            raise RegistryError(f"{server.grpc}: the connection was given up") from None
        finally:
            with self._changed:
                if self._line is line:
                    self._line = None
            line.out.put(None)
            line.channel.close()

    def _dial(self, server: Server) -> _Line:
        with self._changed:
            self._epochs += 1
            epoch = self._epochs
        credentials = self._login.credentials()
        if credentials is None:
            return _Line(epoch, grpc.insecure_channel(server.grpc, _OPTIONS))
        return _Line(epoch, grpc.secure_channel(server.grpc, credentials, _OPTIONS))

    def _set_up(self, line: _Line, following: Following) -> None:
        """Sets a connection up and hears it to its end."""
        timeout = self._place.timeout
        checked = self._exchange(line.channel, Message("ServerCheckRequest", {"module": "internal"}), timeout)
        if not checked.text("connectionId"):
            raise RegistryError(f"the server is not ready: {checked.text('message')[:300] or checked.kind}")
        self._send(line, Message("ConnectionSetupRequest", self._introduction()))
        stream: grpc.StreamStreamMultiCallable[bytes, bytes] = line.channel.stream_stream(_STREAM)
        heard = stream(_until_none(line.out))
        self._wait_for_registration(line, following)
        with self._changed:
            self._line = line
            self._changed.notify_all()
        following.settled()
        self._on_up(line.epoch)
        for raw in heard:
            self._hear(line, decode(raw))
        raise RegistryError("the server ended the connection")

    def _introduction(self) -> JsonObject:
        labels = {"source": "sdk", "module": "naming"}
        return {
            "clientVersion": f"meshsdk:v{VERSION}",
            "tenant": self._place.namespace,
            "labels": labels,
            "abilityTable": {},
        }

    def _wait_for_registration(self, line: _Line, following: Following) -> None:
        deadline = time.monotonic() + self._place.timeout
        while True:
            answer = self._exchange(line.channel, Message("HealthCheckRequest", {"module": "internal"}), 1.0)
            if answer.kind != "ErrorResponse":
                return
            if time.monotonic() > deadline or not following.wait(_SETTLING):
                raise RegistryError(f"the server does not accept the connection: {answer.text('message')[:300]}")

    def _hear(self, line: _Line, message: Message) -> None:
        """Answers what the server asks; it closes connections that do not."""
        if not message.kind.endswith("Request"):
            return
        if message.kind == "NotifySubscriberRequest":
            info = message.body.get("serviceInfo")
            if isinstance(info, dict):
                self._on_push(info)
        answer: JsonObject = {"resultCode": _OK, "errorCode": 0, "requestId": message.text("requestId")}
        self._send(line, Message(f"{message.kind.removesuffix('Request')}Response", answer))
        if message.kind == "ConnectResetRequest":  # it is about to go, or another server of the cluster is to be used
            raise RegistryError("the server asked for a new connection")

    def _send(self, line: _Line, message: Message) -> None:
        line.out.put(encode(message, self._login.headers(self._place.timeout), ""))


class Rejected(RegistryError):
    """The server answered with an error; `code` is its number for it."""

    def __init__(self, words: str, code: int) -> None:
        super().__init__(words)
        self.code = code


def _until_none(out: queue.SimpleQueue[bytes | None]) -> Iterator[bytes]:
    while (raw := out.get()) is not None:
        yield raw
