"""The control plane's rate limit service as processes: replicas over one Redis, reloads, outages, and stock Envoy.

Limits are per day: a test that runs over midnight (UTC) is the one that may see a window end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from meshsdk.channel.rate_limit_client import ThreadRateLimitClient
from meshsdk.interceptors.policies.gate import Consult, Verdict
from tests.e2e.control_planes import Served
from tests.e2e.peers.limited_envoy import LimitedEnvoy
from tests.e2e.processes import PATIENCE, entry_point, until
from tests.servers.redis import RedisServer

LIMITS = """\
apiVersion: meshsdk.io/v1alpha1
kind: RateLimit
metadata: {{name: shop}}
spec:
  domain: shop
  descriptors:
  - key: user
    rateLimit: {{unit: day, requestsPerUnit: {limit}}}
"""
DECISIONS = 'meshsdk_rate_limit_decisions_total{domain="shop",limit="user",outcome="%s"}'


@pytest.fixture
def client() -> Iterator[ThreadRateLimitClient]:
    """The SDK's client."""
    made = ThreadRateLimitClient(lambda name: pytest.fail(f"{name} was asked for"))
    yield made
    made.close()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis."""
    server = RedisServer()
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A directory of configuration with a limit of three a day."""
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "limits.yaml").write_text(LIMITS.format(limit=3))
    return folder


def ask(client: ThreadRateLimitClient, plane: Served, user: str) -> Verdict:
    """Asks a control plane for one call of a user."""
    return client.ask(Consult("shop", ((("user", user),),), PATIENCE, target=plane.xds))


def test_replicas_share_counts(client: ThreadRateLimitClient, redis: RedisServer, config: Path):
    """Two control planes over one Redis refuse the fourth call of a user, whichever was asked before."""
    with ExitStack() as running:
        one, other = (running.enter_context(Served(config, "--rate-limit-store", redis.url)) for _ in range(2))
        asked = [ask(client, plane, "anna") for plane in (one, other, other, one, other)]
        assert [verdict.allowed for verdict in asked] == [True, True, True, False, False]
        assert asked[3].limit == "3 per day for user"
        assert asked[3].retry_after is not None
        assert 0 < asked[3].retry_after <= 86_400
        assert ask(client, one, "bob").allowed
        figures = [plane.metrics() for plane in (one, other)]
        assert sum(figure[DECISIONS % "over_limit"] for figure in figures) == 2
        assert [figure["meshsdk_rate_limit_store_up"] for figure in figures] == [1, 1]


def test_redis_is_away(client: ThreadRateLimitClient, redis: RedisServer, config: Path):
    """Without its Redis a control plane gives no verdict, in one line of its log, serves on, and recovers with it."""
    with Served(config, "--rate-limit-store", redis.url) as plane:
        assert ask(client, plane, "anna").allowed
        redis.kill()
        for _ in range(3):
            verdict = ask(client, plane, "anna")
            assert verdict.allowed is None
            assert "UNAVAILABLE: rate limits cannot be counted: Redis 127.0.0.1" in verdict.problem
        assert plane.metrics()["meshsdk_rate_limit_store_up"] == 0
        assert "rate limit store: Redis 127.0.0.1" in plane.ask("status").stdout
        assert plane.metrics()["meshsdk_rate_limit_failures_total"] == 3
        redis.start()
        until(lambda: ask(client, plane, "anna").allowed, "a verdict")
        assert plane.process.errors.count("rate limits: Redis") == 2


def test_redis_from_the_start(client: ThreadRateLimitClient, redis: RedisServer, config: Path):
    """A control plane starts without its Redis, and uses it once it is there."""
    redis.kill()
    with Served(config, "--rate-limit-store", redis.url) as plane:
        assert ask(client, plane, "anna").allowed is None
        redis.start()
        until(lambda: ask(client, plane, "anna").allowed, "a verdict")


def test_reload(client: ThreadRateLimitClient, config: Path):
    """A changed limit counts from the next question on with what was counted before; a wrong one changes nothing."""
    with Served(config) as plane:
        assert [ask(client, plane, "anna").allowed for _ in range(4)] == [True, True, True, False]
        (config / "limits.yaml").write_text(LIMITS.format(limit=-1))
        until(lambda: plane.status()["problems"], "the refusal")
        assert ask(client, plane, "anna").allowed is False
        (config / "limits.yaml").write_text(LIMITS.format(limit=1_000_000))
        until(lambda: ask(client, plane, "anna").allowed, "the new limit")
        assert plane.metrics()[DECISIONS % "ok"] == 4
        (config / "limits.yaml").write_text(LIMITS.format(limit=5))
        until(lambda: ask(client, plane, "anna").allowed is False, "the limit after it, over with what was counted")


@pytest.mark.envoy
def test_envoy_and_our_client_share_counts(
    client: ThreadRateLimitClient, config: Path, backends: dict[str, int], tmp_path: Path
):
    """A stock Envoy with its ratelimit filter and our client spend the same allowance of the same user."""
    with Served(config) as plane:
        envoy = LimitedEnvoy(int(plane.xds.rpartition(":")[2]), backends["a"], "shop", tmp_path)
        try:
            assert envoy.call("anna").name == "OK"
            assert ask(client, plane, "anna").allowed
            assert envoy.call("anna").name == "OK"
            assert envoy.call("anna").name == "RESOURCE_EXHAUSTED"
            assert ask(client, plane, "anna").allowed is False
            assert envoy.call("bob").name == "OK"
        finally:
            envoy.stop()


@pytest.mark.parametrize("store", ["redis://h", "redis://:sesame@127.0.0.1:1/0"])
def test_wrong_store(config: Path, store: str):
    """A store that cannot be meant ends the control plane at once, in one line that shows no password."""
    arguments = ("serve", "--config", str(config), "--xds", "127.0.0.1:0", "--rate-limit-store", store)
    with entry_point("controlplane.cli:main", *arguments) as process:
        until(lambda: not process.running, "the end")
        assert process.stop() == 1
    assert process.errors.startswith("meshctl: --rate-limit-store redis://")
    assert process.errors.count("\n") == 0
    assert "sesame" not in process.errors
