"""XXH64 in Python against the published vectors and the native package."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.model.xxh64 import xxh64, xxh64_python


@pytest.mark.parametrize(
    ("data", "seed", "expected"),
    [
        (b"", 0, 0xEF46DB3751D8E999),
        (b"a", 0, 0xD24EC4F1A98C6E5B),
        (b"abc", 0, 0x44BC2CF5AD770999),
        (b"Nobody inspects the spammish repetition", 0, 0xFBCEA83C8A378BF1),
        (b"xxhash", 20141025, 0xB559B98D844E0635),
    ],
)
def test_published_vectors(data: bytes, seed: int, expected: int) -> None:
    """Inputs of all lengths classes hash to the numbers that the reference implementation publishes."""
    assert xxh64_python(data, seed) == expected
    assert xxh64(data, seed) == expected


@given(st.binary(max_size=200), st.integers(0, 2**64 - 1))
def test_equals_the_native_package(data: bytes, seed: int) -> None:
    """The Python code and the `xxhash` package give the same number for any input and seed."""
    native = pytest.importorskip("xxhash")
    assert xxh64_python(data, seed) == native.xxh64_intdigest(data, seed)
