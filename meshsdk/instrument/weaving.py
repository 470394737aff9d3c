"""Puts the mesh in place of grpc's own channels and servers, in a program that knows nothing of it.

`weave` is called by `start/sitecustomize` the moment grpc has been imported, before anybody can take a name from it, so
that whoever imports it, and however (`from grpc import insecure_channel`), gets the woven names. Channels that meshsdk
itself makes stay what they are.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import wrapt

from meshsdk.instrument.targets import service_host

if TYPE_CHECKING:
    from meshsdk.instrument.gate import Engine, Gate
    from meshsdk.instrument.switch import Switch

_LOG = logging.getLogger("meshsdk.instrument")

# Channels made by these are connections of the mesh itself. `meshsdk.channel.mesh` makes those that an application
# asked for by a target which is none of the mesh's: they are woven like any other.
_OWN = ("meshsdk", "controlplane")
_APPLICATIONS = frozenset({"meshsdk.channel.mesh"})


def weave(grpc: Any) -> None:
    """Puts the woven functions into the module `grpc`. Once a process."""
    from meshsdk.instrument import aio_servers, sync_servers, termination  # noqa: PLC0415 - grpc is complete only now

    termination.weave_asyncio()

    for name, wrapper in (
        ("insecure_channel", _sync(secure=False)),
        ("secure_channel", _sync(secure=True)),
        ("aio.insecure_channel", _aio(secure=False)),
        ("aio.secure_channel", _aio(secure=True)),
        ("server", sync_servers.make),
        ("aio.server", aio_servers.make),
    ):
        wrapt.wrap_function_wrapper(grpc, name, _guarded(wrapper))


def _guarded(wrapper: Callable[..., Any]) -> Callable[..., Any]:
    """Leaves the calls of meshsdk itself alone."""

    def guarded(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__", "")  # noqa: SLF001 - who calls is what matters
        if caller.partition(".")[0] in _OWN and caller not in _APPLICATIONS:
            return wrapped(*args, **kwargs)
        return wrapper(wrapped, instance, args, kwargs)

    return guarded


@functools.lru_cache(maxsize=1)
def switch() -> Switch:
    """Returns the switch of this process."""
    from meshsdk.instrument.switch import Switch  # noqa: PLC0415 - not before it is needed

    return Switch()


def engine() -> Engine:
    """Returns the engine of the process's mesh, which starts with its first use. Raises BootstrapError."""
    from meshsdk.facade import default_mesh  # noqa: PLC0415 - not before it is needed

    return cast("Engine", default_mesh().engine)


def _gate(target: str, host: str) -> Gate:
    from meshsdk.instrument.gate import Gate  # noqa: PLC0415 - grpc is complete only now

    return Gate(target, host, engine, switch())


class _Arguments:
    """What a program gave to a function that makes channels, whether by place or by name."""

    def __init__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, secure: bool) -> None:
        names = ("target", *(("credentials",) if secure else ()), "options", "compression", "interceptors")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        self.target: Any = given.get("target")
        self.options: Any = given.get("options")
        self.flavour = {"credentials": given.get("credentials"), "compression": given.get("compression")}
        self.interceptors: Any = given.get("interceptors")
        self.host = service_host(self.target) if len(args) <= len(names) else None
        self._given = given

    def direct(self, make: Callable[..., Any], **changed: Any) -> Any:
        """Makes the channel that the program asked for, with some arguments exchanged."""
        return make(**{**self._given, **changed})


def _sync(*, secure: bool) -> Callable[..., Any]:
    def make(wrapped: Callable[..., Any], _instance: Any, args: Any, kwargs: Any) -> Any:
        given = _Arguments(args, kwargs, secure=secure)
        if given.host is None:
            return wrapped(*args, **kwargs)
        from meshsdk.instrument.sync_channel import WovenChannel  # noqa: PLC0415 - grpc is complete only now

        gate = _gate(given.target, given.host)
        return WovenChannel(
            gate,
            lambda: given.direct(wrapped),
            lambda: engine().channel(gate.service, given.options, **given.flavour),
        )

    return make


def _aio(*, secure: bool) -> Callable[..., Any]:
    def make(wrapped: Callable[..., Any], _instance: Any, args: Any, kwargs: Any) -> Any:
        given = _Arguments(args, kwargs, secure=secure)
        if given.host is None:
            return wrapped(*args, **kwargs)
        from meshsdk.instrument.aio_channel import WovenAioChannel  # noqa: PLC0415 - grpc is complete only now

        gate = _gate(given.target, given.host)
        return WovenAioChannel(
            gate,
            lambda interceptors: given.direct(wrapped, interceptors=interceptors),
            lambda: engine().aio_channel(gate.service, given.options, **given.flavour),
            tuple(given.interceptors or ()),
        )

    return make
