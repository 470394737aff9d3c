"""Which adapter a URL opens, and what is said about URLs that open none."""

from __future__ import annotations

import importlib
import types

import pytest

from meshsdk.discovery import opening
from meshsdk.discovery.controlplane import ControlPlaneRegistry
from meshsdk.discovery.etcd.registry import EtcdRegistry
from meshsdk.discovery.memory import MemoryRegistry
from meshsdk.discovery.opening import open_registry
from meshsdk.errors import ConfigurationError
from meshsdk.model.registry_url import SCHEMES

PLACE = "bootstrap.json: meshsdk.registries.default"


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("grpc://127.0.0.1:1", ControlPlaneRegistry),
        ("etcd://127.0.0.1:1,[::1]:2?prefix=/p", EtcdRegistry),
        ("memory://unit-test", MemoryRegistry),
        ("GRPC://[::1]:1", ControlPlaneRegistry),
    ],
)
def test_a_scheme_opens_its_adapter(url, kind):
    """Nothing is dialled: a registry that is not there is opened all the same."""
    registry = open_registry(url, PLACE)
    try:
        assert isinstance(registry, kind)
    finally:
        registry.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "its scheme is none of grpc://, etcd://"),
        ("127.0.0.1:2379", "its scheme is none of"),
        ("ftp://127.0.0.1", "its scheme is none of"),
        ("etcd://[::1", "not a URL"),
        ("etcd://nowhere", "'nowhere' is not HOST:PORT; expected etcd://HOST:PORT"),
        ("etcd://127.0.0.1:1?color=red", "parameter 'color' is none of"),
        ("grpc://127.0.0.1", "'127.0.0.1' is not HOST:PORT; expected grpc://HOST:PORT"),
        ("grpc://127.0.0.1:0", "is not HOST:PORT"),
        ("grpc://[bad", "not a URL"),
        ("grpc:127.0.0.1:1", "expected grpc://HOST:PORT"),
        ("grpc://127.0.0.1:1/x", "nothing goes with the address"),
        ("grpc://me@127.0.0.1:1", "no user and no password"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(url, words):
    """The message says where the URL stands, what is wrong with it, and what is expected."""
    with pytest.raises(ConfigurationError, match=words) as refused:
        open_registry(url, PLACE)
    assert str(refused.value).startswith(PLACE)


@pytest.mark.parametrize(
    "url",
    [
        "etcd://me:secret@127.0.0.1:1",
        "ftp://me:secret@127.0.0.1:1",
        "grpc://me:secret@127.0.0.1:1",
        "grpc://me:secret@[bad",
        "etcd://127.0.0.1:1?password=secret",
        "consul://127.0.0.1:1?token=secret",
        "me:secret@127.0.0.1:1",
        "etcd://me:\u2100secret@127.0.0.1:1",
    ],
)
def test_a_password_is_not_shown(url):
    """A password that somebody wrote into the URL does not reach logs by way of an error."""
    with pytest.raises(ConfigurationError) as refused:
        open_registry(url, PLACE)
    assert "secret" not in str(refused.value)
    assert "***" in str(refused.value)


def test_a_missing_extra_is_named(monkeypatch):
    """An adapter whose library is not installed is one line with the command that installs it."""

    def import_module(name: str) -> types.ModuleType:
        raise ModuleNotFoundError("No module named 'kazoo'", name="kazoo")

    monkeypatch.setattr(opening.importlib, "import_module", import_module)
    with pytest.raises(ConfigurationError, match=r"needs kazoo.*pip install 'meshsdk\[zookeeper\]'"):
        open_registry("zookeeper://127.0.0.1:1", PLACE)


def test_every_adapter_has_its_opener():
    """Each scheme's module is there and has `open_url`; what the adapters need is installed for tests."""
    assert tuple(opening._ADAPTERS) == SCHEMES
    for module, _, _ in opening._ADAPTERS.values():
        assert callable(importlib.import_module(module).open_url)
