"""A path that calls have left: when it is idle, and when it is closed."""

from __future__ import annotations

from meshsdk.instrument.path import LONGEST, QUIET, Path, Retirement
from meshsdk.instrument.way import Way


class Call:
    """A call that can be held weakly."""

    def __init__(self) -> None:
        self.over = False

    def done(self) -> bool:
        """See grpc.Future."""
        return self.over


class PlainCall:
    """A call of grpc's that is no future."""

    def __init__(self) -> None:
        self.active = True

    def done(self) -> bool:
        """See grpc._channel._SingleThreadedRendezvous."""
        raise NotImplementedError

    def is_active(self) -> bool:
        """See grpc.RpcContext."""
        return self.active


def test_blocking_calls_keep_it_busy():
    """From `begin` to `end`."""
    path = Path(Way.MESH, None)
    path.begin(None)
    assert not path.idle()
    path.end()
    assert path.idle()


def test_calls_that_outlive_their_method_keep_it_busy():
    """Until they have ended, or nobody holds them."""
    path, future, stream, dropped = Path(Way.MESH, None), Call(), PlainCall(), Call()
    for one in (future, stream, dropped):
        path.follow(one)
    del dropped, one
    assert not path.idle()
    future.over = True
    assert not path.idle()
    stream.active = False
    assert path.idle()


def test_an_exceptional_path_tells_of_every_call():
    """That is how fallbacks are counted."""
    told = []
    path = Path(Way.FALLBACK, None, lambda: told.append(1))
    for _ in range(3):
        path.begin(None)
        path.end()
    assert len(told) == 3


def test_a_left_path_is_closed_when_it_has_been_quiet():
    """Calls that began just before the turn are waited for."""
    path = Path(Way.MESH, None)
    path.begin(None)
    retirement = Retirement(path, now=0.0)
    assert not retirement.due(QUIET + 1)
    path.end()
    assert not retirement.due(QUIET + 1.5)
    assert retirement.due(2 * QUIET + 1.5)


def test_a_left_path_is_closed_at_last_whatever_runs():
    """A stream that never ends has 15 seconds."""
    path = Path(Way.MESH, None)
    path.begin(None)
    retirement = Retirement(path, now=0.0)
    assert not retirement.due(LONGEST - 0.1)
    assert retirement.due(LONGEST)
