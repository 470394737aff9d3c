"""What a call's attempts make of it in the counts."""

from __future__ import annotations

import pytest

from meshsdk.channel.course import Course
from meshsdk.xds_client.load_counts import Counts, Place, Tally


class Target:
    """A target that notes what ended without an endpoint."""

    def __init__(self) -> None:
        self.tally = Tally(Place((), "orders", unplaced=True))

    def unplaced(self) -> Tally:
        """See `course.Unplaced`."""
        return self.tally


S, U = False, True  # an attempt that was sent, or may have been; one that never left


@pytest.mark.parametrize(
    ("attempts", "status", "counted"),
    [
        ([S], "OK", Counts(succeeded=1)),
        ([S], "ABORTED", Counts(errors=1)),
        ([U], "UNAVAILABLE", Counts(errors=1)),
        ([U, S], "OK", Counts(succeeded=1, moved=1)),
        ([U, U, U, S], "OK", Counts(succeeded=1, moved=1)),
        ([S, S], "OK", Counts(succeeded=1, retried=1, doubled=1)),
        ([S, S, S], "ABORTED", Counts(errors=1, retried=1, doubled=1)),
        ([S, U], "UNAVAILABLE", Counts(errors=1, retried=1)),
        ([S, U, S], "OK", Counts(succeeded=1, retried=1, moved=1, doubled=1)),
        ([U, S, S], "OK", Counts(succeeded=1, retried=1, moved=1, doubled=1)),
    ],
)
def test_attempts(attempts, status, counted):
    """Retried, moved and doubled follow from which attempts left the process; the call counts once, where it ended."""
    target = Target()
    course = Course(target)
    places = [Tally(Place((), str(number))) for number in range(len(attempts))]
    for unsent, place in zip(attempts, places, strict=True):
        course.take(place)
        if place is places[-1] and status == "OK":
            course.succeed()
        else:
            course.attempted(unsent=unsent)
    course.end(status)
    course.end("OK")  # only the first end counts
    assert places[-1].read()[0] == counted
    assert [place.read()[0] for place in places[:-1]] == [Counts(away=1)] * (len(attempts) - 1)
    assert target.tally.read()[0] == Counts()


def test_without_an_endpoint():
    """A call that never had an endpoint counts for its target."""
    target = Target()
    Course(target).end("UNAVAILABLE")
    Course(target).end("CANCELLED", cancelled=True)
    counts, statuses, _ = target.tally.read()
    assert counts == Counts(errors=2, cancelled=1)
    assert statuses == {"UNAVAILABLE": 1}
