"""Following a prefix without a gap: where it goes on from, and when it lists anew."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from meshsdk.discovery.etcd.methods import Compacted
from meshsdk.discovery.etcd.prefix import PrefixFollower
from meshsdk.discovery.etcd.values import Batch, Entry, Listing
from meshsdk.discovery.etcd.watching import FellBehind
from meshsdk.errors import RegistryError

CLUSTER, OTHER_CLUSTER = 7, 8


def listing(revision: int, *keys: str, cluster: int = CLUSTER) -> Listing:
    """A listing of keys."""
    return Listing(cluster, revision, {key: Entry(key, b"", revision) for key in keys})


def put(revision: int, key: str) -> Batch:
    """A change of one key."""
    return Batch(CLUSTER, revision, {key: Entry(key, b"", revision)})


def stands(at: int, cluster: int = CLUSTER) -> Batch:
    """What a watcher yields first: the watch stands, at a member that is at revision `at`."""
    return Batch(cluster, at)


class Watcher:
    """Plays batches; an exception among them is raised."""

    def __init__(self, news: list[Batch | RegistryError]) -> None:
        self._news = news
        self.cancelled = False

    def batches(self) -> Iterator[Batch]:
        """Plays until cancelled."""
        for one in self._news:
            if self.cancelled:
                return
            if isinstance(one, RegistryError):
                raise one
            yield one

    def cancel(self) -> None:
        """Ends it."""
        self.cancelled = True


class Client:
    """Plays listings and watchers, and keeps from where it was watched."""

    def __init__(self, listings: list[Listing], *watches: list[Batch | RegistryError]) -> None:
        self._listings = listings
        self._watches = list(watches)
        self.starts: list[int] = []
        self.watchers: list[Watcher] = []
        self.listed = 0

    def list(self, prefix: str) -> Listing:
        """Plays the next listing."""
        assert prefix == "/p/"
        self.listed += 1
        return self._listings.pop(0)

    def watch(self, prefix: str, start: int) -> Watcher:
        """Plays the next watch."""
        assert prefix == "/p/"
        self.starts.append(start)
        self.watchers.append(Watcher(self._watches.pop(0)))
        return self.watchers[-1]


LOST = RegistryError("lost")


def reading(client: Client) -> tuple[PrefixFollower, list[Listing | Batch]]:
    """Reads until it breaks, keeping what came before."""
    follower = PrefixFollower(client, "/p/")
    return follower, read(follower)


def read(follower: PrefixFollower) -> list[Listing | Batch]:
    """Reads on until it breaks."""
    news: list[Listing | Batch] = []
    try:
        for one in follower.news():
            news.append(one)  # noqa: PERF402 - what came before the error counts
    except RegistryError:
        return news
    raise AssertionError(f"it ended instead of breaking: {news}")


def test_it_watches_from_right_after_the_listing():
    """A listing at revision 10 is followed by the changes from 11 on."""
    client = Client([listing(10, "a")], [stands(12), put(11, "b"), put(12, "c"), LOST])
    _, news = reading(client)
    assert client.starts == [11]
    assert news == [listing(10, "a"), stands(10), put(11, "b"), put(12, "c")]


def test_after_a_loss_it_goes_on_from_the_last_change():
    """Nothing is listed again, and nothing is told twice or missed."""
    client = Client([listing(10)], [stands(10), put(15, "a"), LOST], [stands(20), put(16, "b"), LOST])
    follower, _ = reading(client)
    assert read(follower) == [stands(15), put(16, "b")]
    assert client.starts == [11, 16]
    assert client.listed == 1
    assert all(watcher.cancelled for watcher in client.watchers)


def test_progress_without_changes_counts():
    """An empty batch moves the place on: what was compacted meanwhile is not missed."""
    client = Client([listing(10)], [stands(10), Batch(CLUSTER, 90), LOST], [stands(95), LOST])
    follower, _ = reading(client)
    read(follower)
    assert client.starts == [11, 91]


def test_where_the_member_stands_moves_nothing():
    """The revision at which a watch is confirmed says nothing about the changes before it: they still come."""
    client = Client([listing(10)], [stands(99), LOST], [stands(99), put(11, "a"), LOST])
    follower, _ = reading(client)
    assert read(follower)[-1] == put(11, "a")
    assert client.starts == [11, 11]


def test_compacted_while_away_it_lists_anew():
    """The changes from the last place on are gone: a listing follows at once."""
    client = Client([listing(10, "a"), listing(50, "b")], [stands(10), LOST], [Compacted("gone")], [stands(50), LOST])
    follower, _ = reading(client)
    assert read(follower) == [listing(50, "b"), stands(50)]
    assert client.starts == [11, 11, 51]


@pytest.mark.parametrize("first", [stands(99, OTHER_CLUSTER), stands(9)], ids=["other cluster", "older"])
def test_another_store_is_listed_anew(first):
    """A store made anew, or restored from a backup, does not continue what was read before."""
    client = Client([listing(10, "a"), listing(3, "b")], [stands(10), LOST], [first], [stands(3), LOST])
    follower, _ = reading(client)
    assert read(follower) == [listing(3, "b"), stands(3)]
    assert client.starts == [11, 11, 4]


def test_a_member_behind_the_listing_is_no_other_store():
    """Right after a listing the watch may stand at a member that has not caught up: it will."""
    client = Client([listing(10, "a")], [stands(8), put(11, "b"), LOST])
    _, news = reading(client)
    assert news[-1] == put(11, "b")


@pytest.mark.parametrize("problem", [Compacted("gone"), FellBehind("slow")])
def test_losing_the_place_right_after_a_listing_is_the_caller_s_to_wait(problem):
    """It does not list in a circle: the error is raised, and the next call lists."""
    client = Client([listing(10), listing(20)], [stands(10), problem], [stands(20), LOST])
    follower, _ = reading(client)
    assert client.listed == 1
    assert read(follower)[0] == listing(20)


def test_news_that_the_caller_failed_on_come_again():
    """A batch counts as read when the next is asked for."""
    client = Client([listing(10)], [stands(10), put(11, "a")], [stands(11), put(11, "a"), LOST])
    follower = PrefixFollower(client, "/p/")
    for news in follower.news():
        if news == put(11, "a"):
            break
    assert read(follower)[-1] == put(11, "a")
    assert client.starts == [11, 11]


def test_interrupted_it_ends():
    """`interrupt` ends the watcher that is read, and nothing is told after."""
    client = Client([listing(10)], [stands(10), put(11, "a"), put(12, "b")])
    follower = PrefixFollower(client, "/p/")
    news = []
    for one in follower.news():
        news.append(one)
        if one == put(11, "a"):
            follower.interrupt()
    assert news[-1] == put(11, "a")
    assert list(follower.news()) == []


def test_interrupted_during_a_listing_it_tells_nothing():
    """A listing that was under way is not told to who has cancelled."""
    client = Client([listing(10)])
    follower = PrefixFollower(client, "/p/")
    original = client.list

    def interrupted(prefix: str) -> Listing:
        follower.interrupt()
        return original(prefix)

    client.list = interrupted
    assert list(follower.news()) == []
