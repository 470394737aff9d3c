"""Cookies of session affinity: what is read, what is written."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.lb.affinity import Seat, applies, parse, seat, set_cookie
from meshsdk.model.filters import StatefulSession

SESSION = StatefulSession("sid", path="/shop.Orders", ttl=120.0)


def coded(value: bytes) -> str:
    """Base64."""
    return b64encode(value).decode()


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"10.0.0.1:80", Seat("10.0.0.1:80")),
        (b"[::1]:80", Seat("[::1]:80")),
        (b"10.0.0.1:80;cluster:orders|v1", Seat("10.0.0.1:80", "orders|v1")),
        (b'10.0.0.1:80;"orders"', Seat("10.0.0.1:80", "orders")),
        (b"10.0.0.1:80,[::1]:80;cluster:orders", Seat("10.0.0.1:80", "orders")),
        (b"\x0a\x0b10.0.0.1:80", Seat("10.0.0.1:80")),
        (b"\x0a\x0b10.0.0.1:80\x10\x80\x9e\x03", Seat("10.0.0.1:80")),
        (b"", None),
        (b"orders", None),
        (b"\xff\xfe:1", None),
        (b"10.0.0.1:80\n", None),
        (b"\x0a\xff\xff\xff\xff", None),
    ],
)
def test_values_of_every_writer_are_read(value: bytes, found: Seat | None) -> None:
    """Envoy's, old and new, gRPC's with and without cluster; garbage names nothing."""
    assert parse(coded(value)) == found


@pytest.mark.parametrize("value", ["not base64!", "A" * 5000, "YQ"])
def test_what_is_no_base64_names_nothing(value: str) -> None:
    """Nor does a value that is too long."""
    assert parse(value) is None


def test_the_cookie_is_found_among_others() -> None:
    """In any of the call's cookie lines, quoted or not; other keys and names do not count."""
    value = coded(b"10.0.0.1:80")
    wanted = Seat("10.0.0.1:80")
    assert seat(SESSION, [("cookie", f"a=b; sid={value}; c=d")]) == wanted
    assert seat(SESSION, [("cookie", "a=b"), ("cookie", f'sid="{value}"')]) == wanted
    assert seat(SESSION, [("cookie", f"side={value}"), ("x-cookie", f"sid={value}")]) is None
    assert seat(SESSION, None) is None


def test_two_different_cookies_name_nothing() -> None:
    """A55: more than one cookie of the name is no cookie."""
    one, other = coded(b"10.0.0.1:80"), coded(b"10.0.0.2:80")
    assert seat(SESSION, [("cookie", f"sid={one}; sid={other}")]) is None


@pytest.mark.parametrize(
    ("path", "method", "expected"),
    [
        ("", "/shop.Orders/Get", True),
        ("/", "/shop.Orders/Get", True),
        ("/shop.Orders", "/shop.Orders/Get", True),
        ("/shop.Orders/", "/shop.Orders/Get", True),
        ("/shop.Orders/Get", "/shop.Orders/Get", True),
        ("/shop.Orders/Ge", "/shop.Orders/Get", False),
        ("/shop.Order", "/shop.Orders/Get", False),
        ("/shop.Orders/Get", "/shop.Orders/GetAll", False),
    ],
)
def test_the_paths_rule(path: str, method: str, expected: bool) -> None:
    """A cookie's path matches itself and what is below it (RFC 6265 section 5.1.4)."""
    assert applies(StatefulSession("sid", path=path), method) is expected


def test_the_caller_is_told_where_it_was() -> None:
    """Only if that is not where it asked to go; with the cookie's age and path."""
    used = Seat("10.0.0.1:80")
    value = coded(b"10.0.0.1:80")
    expected = ("set-cookie", f'sid="{value}"; Max-Age=120; Path=/shop.Orders; HttpOnly')
    assert set_cookie(SESSION, None, used) == expected
    assert set_cookie(SESSION, Seat("10.0.0.2:80"), used) == expected
    assert set_cookie(SESSION, used, used) is None
    assert set_cookie(StatefulSession("sid", path=""), None, used) == ("set-cookie", f'sid="{value}"; HttpOnly')


@given(st.from_regex(r"\A[0-9.]{1,15}:[0-9]{1,5}\Z"), st.from_regex(r"\A[a-z|/_.-]{0,30}\Z"))
def test_what_is_written_is_read(address: str, cluster: str) -> None:
    """Whatever the names, the cookie that was set brings the next call back."""
    used = Seat(address, cluster)
    told = set_cookie(SESSION, None, used)
    assert told is not None
    assert seat(SESSION, [("cookie", told[1].partition("; Max-Age")[0])]) == used
