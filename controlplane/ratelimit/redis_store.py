"""Counts in Redis: a `CounterStore` that several control planes share. Made by `opening`; needs the extra `redis`.

One transaction a question: INCRBY and EXPIRE for each counter, so that none is left without an end. While Redis does
not answer, questions fail at once for a moment between two attempts; what it missed is not made up for.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from controlplane.ratelimit.counters import CountersDown, Hit, StoreFacts
from controlplane.ratelimit.redis_place import RedisPlace
from meshsdk.errors import ConfigurationError

try:
    from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError
except ModuleNotFoundError as error:
    raise ConfigurationError("a Redis needs the package redis: pip install 'meshsdk[redis]'") from error

_LOG = logging.getLogger(__name__)
_CONNECTIONS = 32
_MOST_WAITING = 1_000  # questions that wait for Redis at one time
_REST = 0.25  # seconds after a failure in which nothing is tried
_MARGIN = 2  # seconds that a counter outlives its window: the clocks of replicas differ


class RedisCounters:
    """Counters of one Redis. Everything is owned by the event loop of its calls; `facts` reads `_up` and `_problem`.

    `clock`: monotonic seconds.
    """

    def __init__(self, place: RedisPlace, clock: Callable[[], float] = time.monotonic) -> None:
        self._place = place
        self._clock = clock
        self._redis: Redis | None = None  # made by the first question, on the loop
        self._waiting = 0
        self._up = True
        self._quiet_until = -math.inf
        self._problem = ""
        self._closed = False

    async def add(self, hits: Sequence[Hit], now: float) -> Sequence[int]:
        """See `CounterStore`. A question whose caller has gone is counted to its end: it may be under way already."""
        if not hits:
            return []
        if self._closed:
            raise CountersDown("the control plane is stopping")
        if self._clock() < self._quiet_until:
            raise CountersDown(self._problem)
        if self._waiting >= _MOST_WAITING:
            raise CountersDown(f"{self._place}: {_MOST_WAITING} questions wait for it")
        self._waiting += 1
        counting = asyncio.ensure_future(self._count(hits, now))
        counting.add_done_callback(self._done)
        return await asyncio.shield(counting)

    def _done(self, counting: asyncio.Future[list[int]]) -> None:
        self._waiting -= 1
        if not counting.cancelled():
            counting.exception()  # told to whoever waits; nobody may

    async def _count(self, hits: Sequence[Hit], now: float) -> list[int]:
        try:
            answers = await asyncio.wait_for(self._transaction(hits, now), self._place.timeout)
        except (RedisError, OSError, asyncio.TimeoutError) as error:
            raise CountersDown(self._failed(error)) from None
        if not self._up:
            self._up = True
            _LOG.info("rate limits: %s answers again", self._place)
        return [int(count) for count in answers[::2]]

    async def _transaction(self, hits: Sequence[Hit], now: float) -> list[int]:
        if self._redis is None:
            self._redis = _client(self._place)
        async with self._redis.pipeline(transaction=True) as pipe:
            for hit in hits:
                key = f"{self._place.prefix}:{hit.key}"
                pipe.incrby(key, hit.hits)
                pipe.expire(key, math.ceil(max(0.0, hit.ends - now)) + _MARGIN)
            answers: list[int] = await pipe.execute()
            return answers

    def _failed(self, error: Exception) -> str:
        words = str(error) or f"no answer within {self._place.timeout:g} s"
        self._problem = f"{self._place} cannot count: {words[:200]}"
        self._quiet_until = self._clock() + _REST
        if self._up:
            self._up = False
            _LOG.error("rate limits: %s; questions are answered UNAVAILABLE until it is back", self._problem)
        return self._problem

    async def close(self) -> None:
        """See `CounterStore`."""
        self._closed = True
        if self._redis is not None:
            await self._redis.aclose(close_connection_pool=True)

    def facts(self) -> StoreFacts:
        """See `CounterStore`."""
        return StoreFacts("" if self._up else self._problem)


def _client(place: RedisPlace) -> Redis:
    tls: dict[str, Any] = {
        "ssl_ca_certs": place.ca or None,
        "ssl_certfile": place.cert or None,
        "ssl_keyfile": place.key or None,
    }
    pool = BlockingConnectionPool(
        max_connections=_CONNECTIONS,
        timeout=place.timeout,
        connection_class=SSLConnection if place.tls else Connection,
        host=place.host,
        port=place.port,
        db=place.database,
        username=place.user or None,
        password=place.password or None,
        protocol=2,
        socket_timeout=place.timeout,
        socket_connect_timeout=place.timeout,
        retry=Retry(NoBackoff(), 0),
        **(tls if place.tls else {}),
    )
    return Redis(connection_pool=pool)
