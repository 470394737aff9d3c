"""The pauses before an Envoy that died is started again."""

from __future__ import annotations

from meshsdk.shim.envoy.supervision import Pauses


def test_pauses_grow_and_are_bounded() -> None:
    """Each failure doubles the pause, up to a limit."""
    pauses, seen = Pauses(), []
    assert pauses.delay == 0.0
    for _ in range(50):
        pauses = pauses.after_end(0.5)
        seen.append(pauses.delay)
    assert seen[:4] == [0.1, 0.2, 0.4, 0.8]
    assert seen[-1] == 10.0


def test_an_envoy_that_ran_for_long_starts_afresh() -> None:
    """What happened before a long run has no part in the next pause."""
    pauses = Pauses(failures=9)
    assert pauses.after_end(60.0).delay == 0.1
