"""What every store of counts does alike: in memory, and in a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from controlplane.ratelimit.counters import CountersDown, CounterStore, Hit
from controlplane.ratelimit.memory import MemoryCounters
from controlplane.ratelimit.redis_place import redis_place
from controlplane.ratelimit.redis_store import RedisCounters
from tests.e2e.processes import until
from tests.servers.redis import RedisServer

NOW = 1_700_000_000.0
END = 1_700_000_060
PASSWORD = "sesame"  # noqa: S105 - of a server that lives for a test


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis that demands a password."""
    server = RedisServer(PASSWORD)
    try:
        yield server.start()
    finally:
        server.remove()


def redis_counters(server: RedisServer, more: str = "", password: str = PASSWORD) -> RedisCounters:
    """A store of a Redis."""
    return RedisCounters(redis_place(urlsplit(server.url + more), {"MESHCTL_REDIS_PASSWORD": password}))


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> CounterStore:
    """An empty store."""
    if request.param == "memory":
        return MemoryCounters()
    server = request.getfixturevalue("redis")
    server.say("FLUSHALL")
    return redis_counters(server)


def run(store: CounterStore, *batches: list[Hit]) -> list[list[int]]:
    """Adds one batch after the other, then closes the store."""

    async def add() -> list[list[int]]:
        try:
            return [list(await store.add(batch, NOW)) for batch in batches]
        finally:
            await store.close()

    return asyncio.run(add())


def test_counts(store: CounterStore):
    """Each counter counts by itself, each hit of a batch at once, and none at all only asks."""
    batch = [Hit("a", 1, END), Hit("b", 5, END), Hit("a", 2, END), Hit("c", 0, END)]
    assert run(store, batch, [Hit("a", 1, END), Hit("b", 0, END)], []) == [[1, 5, 3, 0], [4, 5], []]


def test_many_at_once(store: CounterStore):
    """Of hits that come at the same time none is lost, and no two see the same count."""

    async def add() -> list[int]:
        try:
            counts = await asyncio.gather(*(store.add([Hit("a", 1, END)], NOW) for _ in range(100)))
            return sorted(count for (count,) in counts)
        finally:
            await store.close()

    assert asyncio.run(add()) == list(range(1, 101))


class TestRedis:
    """What only a Redis does."""

    def test_counters_end(self, redis: RedisServer):
        """Every counter is there for its window and a moment more, and then goes by itself."""
        redis.say("FLUSHALL")
        run(redis_counters(redis, "?prefix=mine"), [Hit("a|b=c", 1, END)])
        assert b"mine:a|b=c" in redis.say("KEYS *")
        assert 60 <= int(redis.say("TTL mine:a|b=c").strip(b":\r\n")) <= 62

    def test_two_share(self, redis: RedisServer):
        """Two control planes count on the same counters."""
        redis.say("FLUSHALL")
        one, other = redis_counters(redis), redis_counters(redis)
        assert run(one, [Hit("a", 1, END)]) + run(other, [Hit("a", 1, END)]) == [[1], [2]]

    def test_wrong_password(self, redis: RedisServer, caplog: pytest.LogCaptureFixture):
        """A Redis that lets nobody in counts nothing; the words and the log hold no password."""
        with pytest.raises(CountersDown, match=r"invalid (username-password pair|password)") as down:
            run(redis_counters(redis, "", "open barley"), [Hit("a", 1, END)])
        assert "barley" not in str(down.value) + caplog.text

    def test_frozen(self, redis: RedisServer):
        """A Redis that does not answer costs a question its timeout, and the next one nothing."""
        store = redis_counters(redis, "?timeout=0.05")
        redis.freeze()
        try:
            with pytest.raises(CountersDown, match="cannot count: "):
                run(store, [Hit("a", 1, END)])
        finally:
            redis.thaw()
        assert not store.facts().up

    def test_rest(self, redis: RedisServer):
        """After a failure nothing is tried for a moment, so that questions do not queue up before a dead Redis."""
        now = 0.0
        place = redis_place(urlsplit(f"{redis.url}?timeout=0.05"), {"MESHCTL_REDIS_PASSWORD": PASSWORD})
        store = RedisCounters(place, lambda: now)

        async def scenario() -> list[int]:
            nonlocal now
            redis.say("FLUSHALL")
            redis.freeze()
            with pytest.raises(CountersDown):
                await store.add([Hit("a", 1, END)], NOW)
            redis.thaw()
            with pytest.raises(CountersDown):
                await store.add([Hit("b", 1, END)], NOW)
            now += 1.0
            found = list(await store.add([Hit("b", 1, END)], NOW))
            await store.close()
            return found

        assert asyncio.run(scenario()) == [1]

    def test_restart(self, redis: RedisServer, caplog: pytest.LogCaptureFixture):
        """While Redis is away questions fail, with one line in the log; when it is back they are counted, with one."""
        store = redis_counters(redis)

        async def add() -> int:
            (count,) = await store.add([Hit("a", 1, END)], NOW)
            return count

        async def scenario() -> None:
            redis.say("FLUSHALL")
            assert await add() == 1
            redis.kill()
            for _ in range(3):
                with pytest.raises(CountersDown, match=r"Redis 127\.0\.0\.1"):
                    await add()
            assert not store.facts().up
            redis.start()
            while True:
                try:
                    assert await add() == 1
                    break
                except CountersDown:
                    await asyncio.sleep(0.02)
            await store.close()

        try:
            with caplog.at_level("INFO"):
                asyncio.run(asyncio.wait_for(scenario(), 60))
        finally:
            redis.start()
        lines = [record.levelname for record in caplog.records if "rate limits: " in record.getMessage()]
        assert lines == ["ERROR", "INFO"]
        assert store.facts().up

    def test_caller_goes(self, redis: RedisServer):
        """A question that nobody waits for any more is counted to its end and breaks nothing."""
        redis.say("FLUSHALL")
        store = redis_counters(redis)

        async def scenario() -> int:
            asking = asyncio.ensure_future(store.add([Hit("a", 1, END)], NOW))
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait((asking,))
            await asyncio.to_thread(until, lambda: b"1" in redis.say("GET meshsdk:ratelimit:a"), "the hit to arrive")
            (count,) = await store.add([Hit("a", 1, END)], NOW)
            await store.close()
            return count

        assert asyncio.run(scenario()) == 2

    def test_closed(self, redis: RedisServer):
        """A store that was closed opens nothing again."""
        store = redis_counters(redis)
        run(store, [Hit("a", 1, END)])
        with pytest.raises(CountersDown, match="stopping"):
            run(store, [Hit("a", 1, END)])
