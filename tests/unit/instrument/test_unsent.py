"""What the traceback of an engine's error proves about the request."""

from __future__ import annotations

from types import SimpleNamespace

from meshsdk.channel.blocking import BlockingCall
from meshsdk.channel.stack import Target
from meshsdk.instrument.unsent import never_left


def raised(action) -> Exception:
    """The error that `action` raises."""
    try:
        action()
    except Exception as error:  # noqa: BLE001 - whatever it is
        return error
    raise AssertionError("nothing was raised")


def broken_take() -> object:
    """A target whose step of choosing raises."""
    target = Target.__new__(Target)  # it has nothing of what `take` needs
    return target.take("/m", None, None, 1)


def test_an_error_of_the_choice_is_before_everything():
    """The engine raised as it chose where the call goes: nothing was sent."""
    assert never_left(raised(broken_take))


def test_an_error_after_an_attempt_proves_nothing():
    """The same step, in what follows a failed attempt."""
    call = BlockingCall.__new__(BlockingCall)
    call._rule = lambda forward: broken_take()
    assert not never_left(raised(lambda: call.resume(None, None, None)))


def test_an_error_of_the_program_proves_nothing():
    """A wrong argument, or an error that came from grpc."""
    assert not never_left(raised(lambda: SimpleNamespace().missing))
    assert not never_left(ValueError("never raised"))
