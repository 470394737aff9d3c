"""meshsdk.discovery.watches."""

import pytest

from meshsdk.discovery.following import RegistryClosed
from meshsdk.discovery.watches import Watches


class Scripted:
    """A watch that notes what it is asked."""

    def __init__(self):
        self.live = True
        self.started = 0

    def start(self):
        """Counts."""
        self.started += 1

    def cancel(self):
        """Ends."""
        self.live = False

    def join(self, timeout):
        """Is not for `Watches` to call."""
        raise AssertionError("joining is the registry's business")


def test_closing_ends_all_that_are_live_and_begins_no_more():
    """Two watches begin, one is cancelled by its user: closing cancels and returns what is left, once."""
    watches = Watches("etcd 1")
    first, second, third = Scripted(), Scripted(), Scripted()
    assert watches.begin(first) is first
    first.cancel()
    watches.begin(second)
    watches.begin(third)
    assert [one.started for one in (first, second, third)] == [1, 1, 1]
    assert watches.close() == {second, third}
    assert not second.live
    assert not third.live
    assert watches.close() == frozenset()
    late = Scripted()
    with pytest.raises(RegistryClosed, match="the registry etcd 1 is closed"):
        watches.begin(late)
    assert not late.started
