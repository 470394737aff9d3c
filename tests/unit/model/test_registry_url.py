"""How messages show the URL of a registry."""

from __future__ import annotations

import pytest

from meshsdk.model.registry_url import shown_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:/tmp/x", "sqlite:/tmp/x"),
        ("sqlite:///home/me@here/x?poll=1", "sqlite:///home/me@here/x?poll=***"),
        ("ETCD://a:1,b:2", "ETCD://a:1,b:2"),
        ("grpc://[bad", "grpc://[bad"),
        ("etcd://a:1?user=me&password=se=cret&tls", "etcd://a:1?user=***&password=***&tls"),
        ("etcd://me:secret@a:1/x", "etcd://***@a:1/x"),
        ("etcd://me:se/c?r#e@t@a:1", "etcd://***@a:1"),
        ("me:secret@a:1", "***@a:1"),
        ("etcd://a:1#secret", "etcd://a:1#***"),
        ("", ""),
    ],
)
def test_secrets_are_hidden_and_nothing_else(url, shown):
    """User, password, fragment and the values of parameters are not shown; all else is, as it was written."""
    assert shown_url(url) == shown
