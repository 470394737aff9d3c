"""Header edits: what each kind makes of metadata."""

from __future__ import annotations

import pytest

from meshsdk.interceptors.policies.edits import edited
from meshsdk.model.filters import HeaderEdit

GIVEN = [("a", "1"), ("b", b"2"), ("a", "3")]


@pytest.mark.parametrize(
    ("edits", "left"),
    [
        ((), (("a", "1"), ("b", b"2"), ("a", "3"))),
        ((HeaderEdit("a", "x"),), (("a", "1"), ("b", b"2"), ("a", "3"), ("a", "x"))),
        ((HeaderEdit("a", "x", append=False),), (("b", b"2"), ("a", "x"))),
        ((HeaderEdit("c", "x", append=False),), (("a", "1"), ("b", b"2"), ("a", "3"), ("c", "x"))),
        ((HeaderEdit("a", "x", only_if_absent=True),), (("a", "1"), ("b", b"2"), ("a", "3"))),
        ((HeaderEdit("c", "x", only_if_absent=True),), (("a", "1"), ("b", b"2"), ("a", "3"), ("c", "x"))),
        ((HeaderEdit("a", "x", append=False, only_if_present=True),), (("b", b"2"), ("a", "x"))),
        ((HeaderEdit("c", "x", append=False, only_if_present=True),), (("a", "1"), ("b", b"2"), ("a", "3"))),
        ((HeaderEdit("a", None), HeaderEdit("a", "x", only_if_absent=True)), (("b", b"2"), ("a", "x"))),
        ((HeaderEdit("missing", None),), (("a", "1"), ("b", b"2"), ("a", "3"))),
    ],
)
def test_edits(edits, left):
    """In order; the application's own sequence stays as it is."""
    assert edited(GIVEN, edits) == left
    assert GIVEN == [("a", "1"), ("b", b"2"), ("a", "3")]


def test_of_nothing():
    """Metadata may be missing."""
    assert edited(None, (HeaderEdit("a", "1"),)) == (("a", "1"),)
