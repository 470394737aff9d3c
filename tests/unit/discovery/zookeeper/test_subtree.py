"""What a subtree asks ZooKeeper for, and what it makes of the answers: against a small tree in memory."""

from __future__ import annotations

from collections import Counter

import pytest
from kazoo.exceptions import NoNodeError

from meshsdk.discovery.zookeeper.subtree import Inbox, Subtree
from meshsdk.errors import RegistryError

ROOT = "/m/instances/orders"


class Answer:
    """An answer that is there already, as `Session.wait` takes it."""

    def __init__(self, value: object) -> None:
        self.value = value


class Tree:
    """Session and client in one: nodes in a dictionary, requests counted, watches kept until they fire."""

    def __init__(self) -> None:
        self.nodes: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        self.watched: set[str] = set()

    def wait(self, answer: Answer) -> object:
        """Returns the answer."""
        if isinstance(answer.value, Exception):
            raise answer.value
        return answer.value

    def watching(self, path: str, _: Inbox) -> None:
        """Keeps that it is watched."""
        self.watched.add(path)

    def unwatch(self, path: str, _: Inbox) -> None:
        """Keeps that it is not."""
        self.watched.discard(path)

    def get_children_async(self, path: str, watch: object) -> Answer:
        """Lists a directory."""
        self.asked["list"] += 1
        if path not in self.nodes:
            return Answer(NoNodeError())
        return Answer([node[len(path) + 1 :] for node in self.nodes if node.rpartition("/")[0] == path])

    def get_async(self, path: str, watch: object) -> Answer:
        """Reads a node."""
        self.asked["get"] += 1
        return Answer((self.nodes[path], None) if path in self.nodes else NoNodeError())

    def exists_async(self, path: str, watch: object) -> Answer:
        """Looks for a node."""
        self.asked["exists"] += 1
        return Answer(path in self.nodes or None)

    def make(self, path: str, value: bytes = b"") -> None:
        """Makes a node, or changes it."""
        self.nodes[path] = value


@pytest.fixture
def tree() -> Tree:
    """Two units of an application with three instances."""
    made = Tree()
    for path in (ROOT, f"{ROOT}/-", f"{ROOT}/u"):
        made.make(path)
    made.make(f"{ROOT}/-/1", b"one")
    made.make(f"{ROOT}/-/2", b"two")
    made.make(f"{ROOT}/u/3", b"three")
    return made


def subtree(tree: Tree, depth: int = 2) -> Subtree:
    """Of the application."""
    return Subtree(tree, tree, ROOT, depth, Inbox())


def test_the_listing_watches_all_it_reads(tree):
    """Each directory is listed once and each entry read once, and each has a watch afterwards."""
    put, removed = subtree(tree).read([ROOT])
    assert put == {f"{ROOT}/-/1": b"one", f"{ROOT}/-/2": b"two", f"{ROOT}/u/3": b"three"}
    assert not removed
    assert tree.asked == {"list": 3, "get": 3}
    assert tree.watched == set(tree.nodes)


def test_a_changed_entry_is_read_alone(tree):
    """An event of one entry costs one request."""
    known = subtree(tree)
    known.read([ROOT])
    tree.asked.clear()
    tree.make(f"{ROOT}/-/1", b"new")
    assert known.read([f"{ROOT}/-/1"]) == ({f"{ROOT}/-/1": b"new"}, set())
    assert tree.asked == {"get": 1}


def test_a_storm_is_one_listing(tree):
    """A thousand instances that came since the last event: one listing, and each of the new ones is read once."""
    known = subtree(tree)
    known.read([ROOT])
    tree.asked.clear()
    for number in range(1000):
        tree.make(f"{ROOT}/-/n{number}", b"n")
    put, removed = known.read([f"{ROOT}/-"])
    assert len(put) == 1000
    assert not removed
    assert tree.asked == {"list": 1, "get": 1000}


def test_an_entry_that_goes_is_told_once_and_unwatched(tree):
    """Its own event and its directory's name it both."""
    known = subtree(tree)
    known.read([ROOT])
    del tree.nodes[f"{ROOT}/-/2"]
    assert known.read([f"{ROOT}/-/2", f"{ROOT}/-"]) == ({}, {f"{ROOT}/-/2"})
    assert f"{ROOT}/-/2" not in tree.watched
    assert known.read([f"{ROOT}/-"]) == ({}, set())


def test_an_entry_that_was_made_again_is_not_missing(tree):
    """Deleted and created between two readings: it is a change, and it has a watch."""
    known = subtree(tree)
    known.read([ROOT])
    tree.make(f"{ROOT}/-/2", b"again")
    assert known.read([f"{ROOT}/-", f"{ROOT}/-/2"]) == ({f"{ROOT}/-/2": b"again"}, set())
    assert f"{ROOT}/-/2" in tree.watched


def test_an_entry_that_went_and_comes_back_later_is_new(tree):
    """Its own event came first, its directory's after it was made again."""
    known = subtree(tree)
    known.read([ROOT])
    value = tree.nodes.pop(f"{ROOT}/-/2")
    assert known.read([f"{ROOT}/-/2"]) == ({}, {f"{ROOT}/-/2"})
    tree.make(f"{ROOT}/-/2", value)
    assert known.read([f"{ROOT}/-"]) == ({f"{ROOT}/-/2": b"two"}, set())


def test_a_directory_that_goes_takes_its_entries_along(tree):
    """A unit whose node is deleted: all its entries are gone."""
    known = subtree(tree)
    known.read([ROOT])
    for path in (f"{ROOT}/u/3", f"{ROOT}/u"):
        del tree.nodes[path]
    assert known.read([f"{ROOT}/u"]) == ({}, {f"{ROOT}/u/3"})


def test_a_root_that_is_made_later(tree):
    """Nothing is made by watching: where the root is missing its making is awaited, then all is read."""
    nodes, tree.nodes = tree.nodes, {}
    known = subtree(tree)
    assert known.read([ROOT]) == ({}, set())
    assert tree.nodes == {}
    assert tree.watched == {ROOT}
    tree.nodes = nodes
    put, _ = known.read([ROOT])
    assert len(put) == 3


def test_entries_right_below_the_root(tree):
    """The watch of one unit is a subtree of one level."""
    known = Subtree(tree, tree, f"{ROOT}/u", 1, Inbox())
    assert known.read([f"{ROOT}/u"]) == ({f"{ROOT}/u/3": b"three"}, set())


def test_an_inbox_collects_until_it_is_emptied():
    """Paths that are touched again are one; a loss ends the waiting."""
    inbox = Inbox()
    inbox.touched("/a")
    inbox.touched("/a")
    inbox.touched("/b")
    inbox.wait()
    assert inbox.take() == {"/a", "/b"}
    assert inbox.take() == set()
    inbox.lost()
    with pytest.raises(RegistryError, match="lost"):
        inbox.wait()
