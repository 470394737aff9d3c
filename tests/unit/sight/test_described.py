"""The call that a question of `meshsdk explain` is about, as a process reads it."""

from __future__ import annotations

import pytest

from meshsdk.errors import ConfigurationError
from meshsdk.sight.explain import described


def test_a_call():
    """Keys of metadata are lower-case, fields lists of texts."""
    call = described({"method": "/a.B/C", "metadata": [["X-Tenant", "a"]], "fields": {"user.id": ["7"]}})
    assert (call.metadata, call.fields) == ((("x-tenant", "a"),), {"user.id": ("7",)})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"method": 3}, "the method"),
        ({"metadata": [1]}, "metadata: give"),
        ({"metadata": [["a", "b", "c"]]}, "metadata: give"),
        ({"metadata": {"a": "b"}}, "metadata: give"),
        ({"fields": {"a": 1}}, "fields: 'a' is '1'"),
        ({"fields": {"a": "xyz"}}, "fields: 'a' is 'xyz'"),
        ({"fields": {"a": None}}, "fields: 'a'"),
        ({"fields": [1]}, "fields: give"),
    ],
)
def test_what_is_none(given, words):
    """Each is refused in words that say what to give."""
    with pytest.raises(ConfigurationError, match=words):
        described({"method": "/a.B/C", **given})
