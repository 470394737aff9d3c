"""What grpc's functions give once they are woven, with functions of the test's in their place."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from meshsdk.instrument import weaving
from meshsdk.instrument.sync_channel import WovenChannel
from meshsdk.instrument.way import Way

CREDENTIALS = grpc.ssl_channel_credentials()


class Grpc:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, Any]] = []
        self.channel = object()

    def make(self, *args: Any, **kwargs: Any) -> Any:
        """Stands for grpc's function."""
        self.asked.append((args, kwargs))
        return self.channel


@pytest.fixture
def engine(monkeypatch) -> SimpleNamespace:
    """The engine that woven channels find."""
    asked: list[Any] = []

    def channel(target: str, options: Any = None, **flavour: Any) -> object:
        asked.append((target, options, flavour))
        return object()

    made = SimpleNamespace(bootstrap=SimpleNamespace(servers=["one"]), channel=channel, asked=asked)
    monkeypatch.setattr(weaving, "engine", lambda: made)
    return made


def test_a_target_that_no_service_can_match_is_grpcs_own():
    """The very object, made with the very arguments."""
    native = Grpc()
    args, kwargs = ("127.0.0.1:1", [("a", 1)]), {"compression": None}
    assert weaving._sync(secure=False)(native.make, None, args, kwargs) is native.channel
    assert native.asked == [(args, kwargs)]


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("orders:1", CREDENTIALS, [("a", 1)], grpc.Compression.Gzip), {}),
        (("orders:1", CREDENTIALS), {"options": [("a", 1)], "compression": grpc.Compression.Gzip}),
        (
            (),
            {
                "target": "orders:1",
                "credentials": CREDENTIALS,
                "options": [("a", 1)],
                "compression": grpc.Compression.Gzip,
            },
        ),
    ],
)
def test_options_credentials_and_compression_go_both_ways(engine, args, kwargs):
    """By place or by name: grpc's channel and the mesh's are made with the same."""
    native = Grpc()
    woven = weaving._sync(secure=True)(native.make, None, args, kwargs)
    assert isinstance(woven, WovenChannel)
    given = {"credentials": CREDENTIALS, "options": [("a", 1)], "compression": grpc.Compression.Gzip}
    assert native.asked == [((), {"target": "orders:1", **given})]
    woven._make[Way.MESH]()
    flavour = {"credentials": CREDENTIALS, "compression": grpc.Compression.Gzip}
    assert engine.asked == [("xds:///orders", [("a", 1)], flavour)]


@pytest.mark.parametrize(
    ("caller", "woven"),
    [
        ("shop.app", True),
        ("__main__", True),
        ("meshsdk.channel.mesh", True),
        ("meshsdk.channel.threads", False),
        ("meshsdk.discovery.etcd.transport", False),
        ("controlplane.sources.upstream", False),
        ("meshsdkish", True),
    ],
)
def test_connections_of_the_mesh_itself_are_left_alone(caller, woven):
    """Who calls decides: the engine's own connections must not come back to the engine."""
    guarded = weaving._guarded(lambda *_: "woven")
    space = {"__name__": caller, "guarded": guarded}
    exec("def call(): return guarded(lambda: 'own', None, (), {})", space)  # noqa: S102 - a module of another name
    assert space["call"]() == ("woven" if woven else "own")


def test_too_many_arguments_are_grpcs_to_refuse():
    """The error is the one that the program would have had."""

    def refuse(*args: Any) -> None:
        raise TypeError(len(args))

    with pytest.raises(TypeError, match="5"):
        weaving._sync(secure=False)(refuse, None, ("orders:1", None, None, None, None), {})
