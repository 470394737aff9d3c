"""`@meshsdk.rpc` leaves handlers as they are and can be read back from them."""

from __future__ import annotations

import asyncio
import functools
import inspect

import pytest

from meshsdk.errors import ConfigurationError
from meshsdk.interceptors.rpc import options_of, rpc
from meshsdk.interceptors.rpc_options import RpcOptions


class Orders:
    """A servicer with every kind of handler."""

    @rpc(idempotent=True, timeout="2s")
    def plain(self, request: str, context: object) -> str:
        """Says what it got."""
        return f"{type(self).__name__} {request}"

    @rpc(timeout=1)
    async def coroutine(self, request, context):
        """Awaited."""
        return request

    @rpc(timeout=2)
    def generator(self, request, context):
        """Yields."""
        yield from request

    @rpc(timeout=3)
    async def async_generator(self, request, context):
        """Yields, awaited."""
        for item in request:
            yield item

    @rpc(timeout=4)
    @staticmethod
    def static(request, context):
        """Has no self."""
        return request

    @staticmethod
    @rpc(timeout=5)
    def inner_static(request, context):
        """Has no self either."""
        return request

    @rpc(timeout=6)
    @classmethod
    def of_class(cls, request, context):
        """Has a class."""
        return f"{cls.__name__} {request}"

    def undecorated(self, request, context):
        """Says nothing."""


class MoreOrders(Orders):
    """Overrides one handler without a word, and inherits the rest."""

    async def coroutine(self, request, context):
        """Calls the inherited one."""
        return await super().coroutine(request * 2, context)


def test_signature_and_words_are_kept():
    """Name, docstring, signature and annotations are those of the handler, bound and unbound."""
    bound = Orders().plain
    assert (bound.__name__, bound.__doc__) == ("plain", "Says what it got.")
    assert bound.__qualname__ == "Orders.plain"
    assert str(inspect.signature(bound)) == "(request: 'str', context: 'object') -> 'str'"
    assert list(inspect.signature(Orders.plain).parameters) == ["self", "request", "context"]


def test_kinds_are_kept():
    """grpc.aio tells handlers apart by `inspect`: coroutine functions and generators are still seen as such."""
    orders = Orders()
    assert inspect.iscoroutinefunction(orders.coroutine)
    assert inspect.isgeneratorfunction(orders.generator)
    assert inspect.isasyncgenfunction(orders.async_generator)
    assert not inspect.iscoroutinefunction(orders.plain)


def test_handlers_run_as_before():
    """Every kind of handler gives what it gave, bound to the right object."""

    async def run() -> tuple[object, list[object]]:
        more = MoreOrders()
        return await more.coroutine("ab", None), [item async for item in more.async_generator("cd", None)]

    assert asyncio.run(run()) == ("abab", ["c", "d"])
    assert list(Orders().generator("xy", None)) == ["x", "y"]
    assert MoreOrders().plain("r", None) == "MoreOrders r"
    assert MoreOrders.of_class("r", None) == "MoreOrders r"
    assert Orders().static("s", None) == Orders.inner_static("s", None) == "s"


@pytest.mark.parametrize(
    ("name", "timeout"),
    [("coroutine", 1), ("generator", 2), ("async_generator", 3), ("static", 4), ("inner_static", 5), ("of_class", 6)],
)
def test_options_are_read_back(name, timeout):
    """Options are read from the bound handler, from the class, and through other wrappers around it."""
    for handler in (getattr(Orders(), name), getattr(Orders, name)):
        assert options_of(handler) == RpcOptions(timeout=float(timeout))
    wrapped = functools.wraps(getattr(Orders(), name))(lambda request, context: None)
    assert options_of(wrapped) == RpcOptions(timeout=float(timeout))
    assert options_of(functools.partial(wrapped, context=None)) == RpcOptions(timeout=float(timeout))


def test_inheritance():
    """An inherited handler has its options, an overriding one only its own."""
    assert options_of(MoreOrders().plain) == RpcOptions(idempotent=True, timeout=2.0)
    assert options_of(MoreOrders().coroutine) is None
    assert options_of(Orders().undecorated) is None


def test_plain_functions_and_repeated_decoration():
    """A function is decorated without being changed, so two decorations of it do not mix; the outer one wins."""

    def get(request, context):
        return request

    first, second = rpc(timeout=1)(get), rpc(timeout=2)(get)
    assert options_of(get) is None
    assert (options_of(first), options_of(second)) == (RpcOptions(timeout=1.0), RpcOptions(timeout=2.0))
    assert options_of(rpc(timeout=3)(first)) == RpcOptions(timeout=3.0)
    assert first("r", None) == "r"


@pytest.mark.parametrize("wrong", [Orders, 5, "get"])
def test_what_is_no_handler_is_refused(wrong):
    """Classes and values cannot be decorated."""
    with pytest.raises(ConfigurationError, match="decorates one RPC handler"):
        rpc(timeout=1)(wrong)


def test_a_forgotten_call_is_refused():
    """`@meshsdk.rpc` without parentheses is told what to write."""
    with pytest.raises(ConfigurationError, match=r"write @meshsdk\.rpc\("):
        rpc(lambda request, context: None)


def test_wrong_options_fail_at_decoration():
    """A mistake shows when the module is imported, not at the first call."""
    with pytest.raises(ConfigurationError, match="timeout='soon'"):

        @rpc(timeout="soon")
        def get(request, context):
            """Never made."""
