"""Calls to an etcd cluster over grpcio: one channel per member, moving on from a member that does not answer.

Called by `client` (single calls) and `watching` (the watch stream). Knows paths, credentials and failover; what the
messages mean is the caller's. Every call is bounded by the timeout, whatever the members do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

import grpc

from meshsdk.discovery.etcd import etcd_pb2 as pb
from meshsdk.discovery.etcd.methods import AUTHENTICATE, Compacted, Method, OutcomeUnknown, TooLarge
from meshsdk.discovery.etcd.place import Place
from meshsdk.discovery.following import RegistryClosed
from meshsdk.discovery.registry import LeaseLapsed
from meshsdk.errors import RegistryError

_AnswerT = TypeVar("_AnswerT")
_MAX_ANSWER = 64 * 1024 * 1024  # bytes of one message; the client asks for less when a page is larger
_LEAST_SHARE = 0.1  # seconds; what the last member gets at least
_REDIAL_EVERY = 5.0  # seconds at least between two connections that are given up for a call without an answer
_OPTIONS: tuple[tuple[str, int], ...] = (
    # A member that restarted is found within a second or so, where gRPC would wait up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2000),  # how long core waits for a connection to come up
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A member that vanished without a FIN. etcd closes the connection of who pings more often than every 5 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),  # core counts a minute for an answer, whatever the line above says
    ("grpc.max_receive_message_length", _MAX_ANSWER),
    # Its own connection: a channel shared with others would share their backoff too.
    ("grpc.use_local_subchannel_pool", 1),
)
# Asked of every call: a member cut off from the leader refuses instead of answering from the past.
_HAS_LEADER = ("hasleader", "true")
_ELSEWHERE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_NO_ANSWER = _ELSEWHERE | {grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL}


class Transport:
    """The channels of one client. Usable from any thread; dials at the first call."""

    def __init__(self, place: Place) -> None:
        self.name = f"etcd {','.join(place.endpoints)}"
        self._place = place
        self._lock = threading.Lock()
        self._channels: dict[str, grpc.Channel] = {}  # by endpoint; guarded by _lock
        self._streams: dict[grpc.Channel, int] = {}  # how many are open; guarded by _lock
        self._set_aside: set[grpc.Channel] = set()  # given up but for their streams; guarded by _lock
        self._redialled_at = float("-inf")  # guarded by _lock
        self._current = 0  # index of the endpoint in use; guarded by _lock
        self._token: str | None = None  # of the user; guarded by _lock
        self._closed = False  # guarded by _lock

    def ask(self, verb: str, method: Method[_AnswerT], request: Any) -> _AnswerT:
        """Returns the answer. `verb` begins messages: "cannot {verb} etcd ...".

        Raises LeaseLapsed, Compacted, TooLarge, RegistryClosed, OutcomeUnknown, and RegistryError for all else.
        """
        deadline = time.monotonic() + self._place.timeout
        for left in range(len(self._place.endpoints), 0, -1):
            index, channel = self._member()
            share = max(_LEAST_SHARE, (deadline - time.monotonic()) / left)
            try:
                return self._ask_one(channel, method, request, share)
            except grpc.RpcError as error:
                self._redial(channel, error)
                if not self._goes_elsewhere(index, error, method) or left == 1:
                    failure = self._failure(verb, index, error)
                    in_doubt = _in_doubt(method, error) and not self._closed
                    raise OutcomeUnknown(str(failure)) if in_doubt else failure from None
            except ValueError as error:
                raise self._refused(verb, error) from None
        raise AssertionError("the last member's failure is raised")

    def open(self, method: Method[_AnswerT], requests: Iterable[Any]) -> Stream[_AnswerT]:
        """Opens a stream without a deadline to the member in use. Raises RegistryError when it cannot be opened."""
        index, channel = self._member()
        try:
            call = _callable(channel, method)(iter(requests), metadata=self._metadata(channel, self._place.timeout))
        except grpc.RpcError as error:  # of the authentication
            self._goes_elsewhere(index, error, method)
            raise self._failure("log in to", index, error) from None
        except ValueError as error:
            raise self._refused("open a stream to", error) from None
        with self._lock:
            self._streams[channel] = self._streams.get(channel, 0) + 1
        return Stream(self, index, call, channel)

    def ended(self, channel: grpc.Channel) -> None:
        """A stream on `channel` is over."""
        with self._lock:
            self._streams[channel] -= 1
            if self._streams[channel]:
                return
            del self._streams[channel]
            aside = channel in self._set_aside
            self._set_aside.discard(channel)
        if aside:
            channel.close()

    def lost(self, verb: str, index: int, error: grpc.RpcError) -> RegistryError:
        """Returns what the end of a stream to member `index` means, and moves on to the next member."""
        if error.code() is not grpc.StatusCode.CANCELLED:  # by this process: says nothing about the member
            self.leave(index)
        return self._failure(verb, index, error)

    def leave(self, index: int) -> None:
        """Uses the next member, unless another thread has moved on already."""
        with self._lock:
            if self._current == index:
                self._current = (index + 1) % len(self._place.endpoints)

    def forget_token(self) -> None:
        """Logs in anew at the next call."""
        with self._lock:
            self._token = None

    def close(self) -> None:
        """Ends all calls and streams; idempotent."""
        with self._lock:
            self._closed = True
            channels = [*self._channels.values(), *self._set_aside]
            self._channels.clear()
            self._set_aside.clear()
        for channel in channels:
            channel.close()

    def _member(self) -> tuple[int, grpc.Channel]:
        with self._lock:
            if self._closed:
                raise RegistryClosed(f"the client of {self.name} is closed")
            endpoint = self._place.endpoints[self._current]
            channel = self._channels.get(endpoint)
            if channel is None:
                credentials = self._place.credentials()
                if credentials is None:
                    channel = grpc.insecure_channel(endpoint, _OPTIONS)
                else:
                    channel = grpc.secure_channel(endpoint, credentials, _OPTIONS)
                self._channels[endpoint] = channel
            return self._current, channel

    def _ask_one(self, channel: grpc.Channel, method: Method[_AnswerT], request: Any, timeout: float) -> _AnswerT:
        try:
            return _invoke(channel, method, request, timeout, self._metadata(channel, timeout))
        except grpc.RpcError as error:
            if not (self._place.user and _stale_token(error)):
                raise
        self.forget_token()  # tokens run out: log in anew, once
        return _invoke(channel, method, request, timeout, self._metadata(channel, timeout))

    def _metadata(self, channel: grpc.Channel, timeout: float) -> tuple[tuple[str, str], ...]:
        if not self._place.user:
            return (_HAS_LEADER,)
        with self._lock:
            token = self._token
        if token is None:
            request = pb.AuthenticateRequest(name=self._place.user, password=self._place.password())
            token = _invoke(channel, AUTHENTICATE, request, timeout, ()).token
            with self._lock:
                self._token = token
        return (_HAS_LEADER, ("token", token))

    def _goes_elsewhere(self, index: int, error: grpc.RpcError, method: Method[Any]) -> bool:
        """Moves on from a member that is away; returns whether the same may be asked of the next."""
        if error.code() not in _ELSEWHERE:
            return False
        self.leave(index)
        return method.repeatable or _unsent(error)

    def _redial(self, channel: grpc.Channel, error: grpc.RpcError) -> None:
        """Gives up the connection of a call that got no answer: it may be dead, and nobody would tell.

        Pings find that out only while calls are under way, which single calls hardly ever are. Streams notice by
        themselves, and keep it until then.
        """
        now = time.monotonic()
        with self._lock:
            endpoint = next((name for name, known in self._channels.items() if known is channel), None)
            silent = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            if endpoint is None or not silent or now - self._redialled_at < _REDIAL_EVERY:
                return
            self._redialled_at = now
            del self._channels[endpoint]
            if channel in self._streams:
                self._set_aside.add(channel)
                return
        channel.close()

    def _refused(self, verb: str, error: ValueError) -> RegistryError:
        """Returns what it means that grpc would not take a call: its channel is closed."""
        kind = RegistryClosed if self._closed else RegistryError  # given up by another thread: try again
        return kind(f"cannot {verb} {self.name}: {error}")

    def _failure(self, verb: str, index: int, error: grpc.RpcError) -> RegistryError:
        endpoint = self._place.endpoints[index]
        details = error.details() or ""
        text = f"cannot {verb} etcd {endpoint}: {error.code().name}: {details}"
        match error.code():
            case grpc.StatusCode.NOT_FOUND if "lease not found" in details:
                return LeaseLapsed(text)
            case grpc.StatusCode.OUT_OF_RANGE if "compacted" in details:
                return Compacted(text)
            case grpc.StatusCode.RESOURCE_EXHAUSTED if "larger than max" in details:
                return TooLarge(text)
            case grpc.StatusCode.CANCELLED if self._closed:
                return RegistryClosed(text)
            case _:
                return RegistryError(text)


class Stream(Generic[_AnswerT]):
    """One open stream to one member. Read by one thread; `cancel` may be called from any."""

    def __init__(self, transport: Transport, index: int, call: Any, channel: grpc.Channel) -> None:
        self._transport = transport
        self._index = index
        self._call = call
        self._channel = channel

    def answers(self, verb: str) -> Iterator[_AnswerT]:
        """Yields what comes; ends when the server ends it, raises RegistryError when it breaks."""
        try:
            yield from self._call
        except grpc.RpcError as error:
            raise self._transport.lost(verb, self._index, error) from None
        finally:
            self._transport.ended(self._channel)
        self._transport.leave(self._index)

    def cancel(self) -> None:
        """Ends the stream; idempotent."""
        self._call.cancel()

    def abandon(self) -> None:
        """Ends the stream and leaves its member, which is silent."""
        self._transport.leave(self._index)
        self._call.cancel()


def _callable(channel: grpc.Channel, method: Method[Any]) -> Any:
    shape = channel.stream_stream if method.stream else channel.unary_unary
    return shape(
        method.path,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=method.answer.FromString,
    )


def _invoke(
    channel: grpc.Channel, method: Method[_AnswerT], request: Any, timeout: float, metadata: tuple[tuple[str, str], ...]
) -> _AnswerT:
    call = _callable(channel, method)
    if not method.stream:
        answer: _AnswerT = call(request, timeout=timeout, metadata=metadata)
        return answer
    stream = call(iter((request,)), timeout=timeout, metadata=metadata)
    try:
        first: _AnswerT = next(stream)
        return first
    except StopIteration:
        raise RegistryError(f"{method.path} ended without an answer") from None
    finally:
        stream.cancel()


def _stale_token(error: grpc.RpcError) -> bool:
    details = error.details() or ""
    return error.code() is grpc.StatusCode.UNAUTHENTICATED or "revision of auth store is old" in details


def _in_doubt(method: Method[Any], error: grpc.RpcError) -> bool:
    """Whether a change may have been made though the call failed."""
    return not method.repeatable and error.code() in _NO_ANSWER and not _unsent(error)


def _unsent(error: grpc.RpcError) -> bool:
    """Whether the request surely was not carried out: no connection, or refused for want of a leader."""
    details = error.details() or ""
    return details.startswith("failed to connect to all addresses") or details == "etcdserver: no leader"
