"""Revisions: the same for the same offer, different for another."""

from __future__ import annotations

import pytest

from meshsdk.errors import ConfigurationError
from meshsdk.interceptors.rpc import rpc
from meshsdk.lifecycle.revision import revision_of


def get(request, context):
    """A handler."""


def test_a_revision_lists_methods_with_their_options():
    """Methods are sorted and carry the decorator's words; infrastructure is left out."""
    revision = revision_of(
        "orders",
        {"/shop.Orders/List": get, "/shop.Orders/Get": rpc(idempotent=True)(get), "/grpc.health.v1.Health/Check": get},
    )
    assert [(method.name, dict(method.options)) for method in revision.methods] == [
        ("/shop.Orders/Get", {"idempotent": True}),
        ("/shop.Orders/List", {}),
    ]


def test_the_hash_follows_what_is_served():
    """Order and application do not matter, methods and options do."""
    first = revision_of("orders", {"/a.B/C": get, "/a.B/D": get})
    assert first.revision == revision_of("orders", {"/a.B/D": get, "/a.B/C": get}).revision
    assert len(first.revision) == 16
    others = {
        revision_of("orders", {"/a.B/C": get}).revision,
        revision_of("orders", {"/a.B/C": get, "/a.B/D": rpc(timeout=1)(get)}).revision,
        revision_of("orders", {"/a.B/C": get, "/a.B/D": rpc(timeout=2)(get)}).revision,
    }
    assert len(others | {first.revision}) == 4


def test_the_hash_is_the_same_in_every_process():
    """The hash is fixed by what is served: a release of meshsdk that changed it would look like a new revision."""
    assert revision_of("orders", {"/a.B/C": rpc(idempotent=True, timeout=2)(get)}).revision == "440ae25771d03207"


def test_what_no_registry_takes_is_refused():
    """An application without a proper name is refused before anything starts."""
    with pytest.raises(ConfigurationError, match="is not a name"):
        revision_of("no name", {"/a.B/C": get})
