"""The etcd registry when others write to the same keys, against an etcd that is a dictionary."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from meshsdk.discovery import entries
from meshsdk.discovery.etcd.registry import EtcdRegistry
from meshsdk.discovery.etcd.values import Change, Commit, Condition, Delete, Entry, GrantedLease, Put, Unchanged
from meshsdk.discovery.registry import LeaseLapsed
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance, InstanceState, MethodInfo, Revision

ONE = Instance("orders", "1", "10.0.0.1:50051", unit="u1")
KEY = "/p/instances/orders/u1/1"


class Client:
    """A store of one process. `before_commit` stands for what others do at the worst moment."""

    name = "etcd h:1"

    def __init__(self) -> None:
        self.store: dict[str, Entry] = {}
        self.leases: set[int] = set()
        self.commits: list[Sequence[Change]] = []
        self.before_commit: Callable[[], None] = lambda: None
        self._numbers = itertools.count(1)

    def get(self, key: str) -> Entry | None:
        """Reads."""
        return self.store.get(key)

    def grant(self, ttl: float) -> GrantedLease:
        """Makes a lease."""
        lease = GrantedLease(next(self._numbers), ttl)
        self.leases.add(lease.id)
        return lease

    def keep_alive(self, lease: int) -> float:
        """Renews."""
        if lease not in self.leases:
            raise LeaseLapsed("gone")
        return 15.0

    def keys_of(self, lease: int) -> tuple[str, ...]:
        """Lists a lease's keys."""
        self.keep_alive(lease)
        return tuple(entry.key for entry in self.store.values() if entry.lease == lease)

    def revoke(self, lease: int) -> None:
        """Ends a lease."""
        for key in self.keys_of(lease):
            del self.store[key]
        self.leases.remove(lease)

    def commit(self, changes: Sequence[Change], when: Sequence[Condition] = ()) -> Commit:
        """Changes the store, if all conditions hold."""
        self.before_commit()
        self.commits.append(changes)
        revision = next(self._numbers)
        for condition in when:
            entry = self.store.get(condition.key)
            if isinstance(condition, Unchanged):
                holds = (entry.revision if entry else 0) == condition.revision
            else:
                holds = entry is not None and entry.value == condition.value
            if not holds:
                return Commit(False, revision)
        for change in changes:
            if isinstance(change, Delete):
                self.store.pop(change.key, None)
            elif isinstance(change, Put):
                self.store[change.key] = Entry(change.key, change.value, revision, change.lease)
        return Commit(True, revision)


@pytest.fixture
def client() -> Client:
    """An empty store."""
    return Client()


@pytest.fixture
def registry(client) -> EtcdRegistry:
    """A registry on it."""
    return EtcdRegistry(client, "/p")


def stored(client: Client) -> Instance:
    """Returns the instance that is stored."""
    return entries.instance_from_text(client.store[KEY].value)


def test_a_key_that_somebody_removed_is_told_at_the_next_renewal(client, registry):
    """The lease lives and keeps nothing: the process learns that it has lapsed, and registers again."""
    lease = registry.register(ONE, 15)
    assert registry.renew(lease) == lease
    del client.store[KEY]
    with pytest.raises(LeaseLapsed, match="key of lease"):
        registry.renew(lease)
    registry.renew(registry.register(ONE, 15))


def test_a_key_that_another_process_took_over_is_left_alone(client, registry):
    """The older registration is void: neither its state nor its end touches the newer one's entry."""
    old = registry.register(ONE, 15)
    newer = replace(ONE, address="10.0.0.9:1")
    EtcdRegistry(client, "/p").register(newer, 15)
    for ask in (lambda: registry.renew(old), lambda: registry.set_state(old, InstanceState.DRAINING)):
        with pytest.raises(LeaseLapsed):
            ask()
    registry.deregister(old)
    assert stored(client) == newer


def test_a_state_is_changed_on_what_is_stored_now(client, registry):
    """Somebody changed the entry between reading and writing it: his change is kept, and the state is changed."""
    lease = registry.register(ONE, 15)
    number = client.store[KEY].lease

    def interfere() -> None:
        client.before_commit = lambda: None
        client.commit([Put(KEY, entries.instance_to_text(replace(ONE, weight=7)), number)])

    client.before_commit = interfere
    registry.set_state(lease, InstanceState.DRAINING)
    assert stored(client) == replace(ONE, weight=7, state=InstanceState.DRAINING)
    assert client.store[KEY].lease == number


def test_a_state_that_is_fought_over_is_an_error_in_the_end(client, registry):
    """It does not try for ever."""
    lease = registry.register(ONE, 15)
    number = client.store[KEY].lease

    def interfere() -> None:
        before, client.before_commit = client.before_commit, lambda: None
        client.commit([Put(KEY, client.store[KEY].value, number)])
        client.before_commit = before

    client.before_commit = interfere
    with pytest.raises(RegistryError, match="changes all the time"):
        registry.set_state(lease, InstanceState.DRAINING)


def test_a_state_that_it_has_already_is_not_written(client, registry):
    """Nobody is told of a change that is none."""
    lease = registry.register(ONE, 15)
    written = len(client.commits)
    registry.set_state(lease, InstanceState.ONLINE)
    assert len(client.commits) == written


def test_a_registration_that_fails_leaves_no_lease(client, registry):
    """The lease that was granted for it is given back."""

    def fail() -> None:
        raise RegistryError("space exceeded")

    client.before_commit = fail
    with pytest.raises(RegistryError, match="space exceeded"):
        registry.register(ONE, 15)
    assert client.leases == set()


def test_an_entry_under_another_s_key_is_not_used(client, registry):
    """What an entry says must agree with its key: a copy under another key is nobody's instance."""
    registry.register(ONE, 15)
    entry = client.store[KEY]
    assert registry._decode(KEY, entry) == ONE
    for key in ("/p/instances/orders/u2/1", "/p/instances/orders/u1/2", "/p/instances/users/u1/1"):
        with pytest.raises(RegistryError, match="it is of app 'orders', unit 'u1', id '1'"):
            registry._decode(key, entry)


def test_a_revision_is_written_once_and_last(client, registry):
    """Its services are mapped before it is there; published again nothing is written; a broken one is mended."""
    methods = tuple(MethodInfo(f"/p{n}.S/M") for n in range(300))
    revision = Revision("orders", "r", methods)
    registry.publish_revision(revision)
    writes = [changes for changes in client.commits if changes]
    assert [len(changes) for changes in writes] == [120, 120, 61]
    assert writes[-1][-1].key == "/p/revisions/orders/r"
    registry.publish_revision(revision)
    assert len([changes for changes in client.commits if changes]) == 3
    client.commit([Put("/p/revisions/orders/r", b"{")])
    with pytest.raises(RegistryError, match="entry '/p/revisions/orders/r': not JSON"):
        registry.get_revision("orders", "r")
    registry.publish_revision(revision)
    assert registry.get_revision("orders", "r").methods
