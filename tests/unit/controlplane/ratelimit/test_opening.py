"""What `--rate-limit-store` takes, and how it says what is wrong."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from controlplane.ratelimit.memory import MemoryCounters
from controlplane.ratelimit.opening import open_counters
from controlplane.ratelimit.redis_place import PASSWORD, RedisPlace, redis_place
from meshsdk.errors import ConfigurationError


def place(text: str, **environment: str) -> RedisPlace:
    """Reads a URL."""
    return redis_place(urlsplit(text), environment)


def test_places(tmp_path: Path):
    """A URL names host, port and database; the rest has defaults; a password comes from a file or the environment."""
    assert place("redis://10.0.0.1:6379") == RedisPlace("10.0.0.1", 6379)
    assert place("redis://[::1]:6379/3?timeout=0.1&prefix=shop") == RedisPlace("::1", 6379, 3, "shop", 0.1)
    secret = tmp_path / "secret"
    secret.write_text("sesame\nmore\n")
    read = place(f"rediss://redis.shop:6380/0?user=mesh&password_file={secret}&ca=ca.pem")
    assert (read.tls, read.ca, read.user, read.password) == (True, "ca.pem", "mesh", "sesame")
    assert place("redis://h:1", **{PASSWORD: "sesame"}) == RedisPlace("h", 1, password="sesame")  # noqa: S106
    assert "sesame" not in f"{read} {read!r}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file.db", "expected memory, or redis://"),
        ("etcd://h:1", "expected memory, or redis://"),
        ("redis://:sesame@h:1", "no password in the URL"),
        ("redis://h", "'h' is not HOST:PORT"),
        ("redis://h:1,i:1", "one HOST:PORT"),
        ("redis://h:1/zero", "'/zero' is not the number of a database"),
        ("redis://h:1?timeout=0", "timeout '0' is not between"),
        ("redis://h:1?password=sesame", "parameter 'password' is none of"),
        ("redis://h:1?prefix=a%20b", "prefix has 1 to 64"),
        ("redis://h:1?user=mesh", "user needs password_file"),
        ("redis://h:1?password_file=/no/such/sesame", "cannot read"),
        ("redis://h:1?ca=ca.pem", "need rediss://"),
        ("redis://[h:1", "not a URL"),
    ],
)
def test_refusals(text, words, monkeypatch):
    """What cannot be meant is refused in a few words that name the option and show no secret."""
    monkeypatch.delenv("MESHCTL_REDIS_PASSWORD", raising=False)
    with pytest.raises(ConfigurationError) as refused:
        open_counters(text)
    assert words in str(refused.value)
    assert str(refused.value).startswith("--rate-limit-store ")
    assert "sesame@" not in str(refused.value)
    assert "password=sesame" not in str(refused.value)


def test_memory():
    """The default needs no package and no server."""
    assert isinstance(open_counters("memory"), MemoryCounters)
