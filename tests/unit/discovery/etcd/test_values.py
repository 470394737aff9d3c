"""Keys and ranges as etcd has them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshsdk.discovery.etcd.values import key_bytes, key_text, range_end


@given(st.binary(max_size=20))
def test_every_key_survives_as_text(raw):
    """Also one that is not UTF-8."""
    assert key_bytes(key_text(raw)) == raw


@given(st.binary(min_size=1, max_size=4), st.binary(max_size=6))
def test_a_range_holds_what_starts_with_its_prefix(prefix, key):
    """A key is in [prefix, range_end) exactly when it starts with the prefix; a zero byte means to the end."""
    end = range_end(key_text(prefix))
    assert (prefix <= key and (end == b"\0" or key < end)) == key.startswith(prefix)
    assert range_end("/meshsdk/") == b"/meshsdk0"
