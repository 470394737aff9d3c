"""An etcd client: read, change, lease, watch. The part of etcd's v3 API that a registry and a store need.

Used by the etcd registry and by the control plane's store. All calls are bounded by the place's timeout, may be made
from any thread, and raise RegistryError in words; LeaseLapsed, Compacted and RegistryClosed are told apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from meshsdk.discovery.etcd import etcd_pb2 as pb
from meshsdk.discovery.etcd import methods as rpc
from meshsdk.discovery.etcd.place import Place
from meshsdk.discovery.etcd.transport import Transport
from meshsdk.discovery.etcd.values import (
    Change,
    Commit,
    Condition,
    Delete,
    Entry,
    Equals,
    GrantedLease,
    Listing,
    Put,
    Unchanged,
    key_bytes,
    key_text,
    range_end,
)
from meshsdk.discovery.etcd.watching import Watcher, WatchStreams
from meshsdk.discovery.registry import LeaseLapsed
from meshsdk.errors import RegistryError

MAX_CHANGES = 120  # in one transaction; etcd's own limit is 128 (--max-txn-ops)
_PAGE = 500  # entries asked for at a time
_MAX_ENTRIES = 2_000_000  # of one listing
_RELISTS = 3  # times a listing starts over because its revision was compacted meanwhile


class EtcdClient:
    """One connection to an etcd cluster, and one watch stream over it for all watchers. Dials at the first call."""

    def __init__(self, place: Place) -> None:
        self._transport = Transport(place)
        self._watching = WatchStreams(self._transport)

    @property
    def name(self) -> str:
        """Names the cluster in messages."""
        return self._transport.name

    def get(self, key: str) -> Entry | None:
        """Returns the entry of a key, None if there is none."""
        answer = self._transport.ask("read from", rpc.RANGE, pb.RangeRequest(key=key_bytes(key)))
        return _entry(answer.kvs[0]) if answer.kvs else None

    def list(self, prefix: str) -> Listing:
        """Returns all entries below a prefix, as of one revision, read page by page."""
        for left in range(_RELISTS - 1, -1, -1):
            try:
                return self._list(prefix)
            except rpc.Compacted:
                if not left:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def commit(self, changes: Sequence[Change], when: Sequence[Condition] = ()) -> Commit:
        """Makes up to MAX_CHANGES changes, all or none, if all conditions hold. A key may be changed once.

        Raises LeaseLapsed when a lease of theirs is gone. After any other RegistryError they may or may not have been
        made.
        """
        request = pb.TxnRequest(compare=map(_compare, when), success=map(_operation, changes))
        answer = self._transport.ask("write to", rpc.TXN, request)
        return Commit(answer.succeeded, answer.header.revision)

    def put(self, key: str, value: bytes, lease: int = 0) -> Commit:
        """Writes one key."""
        return self.commit([Put(key, value, lease)])

    def delete(self, key: str) -> Commit:
        """Removes one key; one that is not there is no error."""
        return self.commit([Delete(key)])

    def compact(self, revision: int) -> None:
        """Has etcd forget what was before `revision`."""
        self._transport.ask("compact", rpc.COMPACT, pb.CompactionRequest(revision=revision, physical=True))

    def grant(self, ttl: float) -> GrantedLease:
        """Makes a lease of `ttl` seconds, rounded to whole ones; etcd may grant more."""
        answer = self._transport.ask("get a lease from", rpc.LEASE_GRANT, pb.LeaseGrantRequest(TTL=max(1, round(ttl))))
        if answer.error:
            raise RegistryError(f"cannot get a lease from {self.name}: {answer.error}")
        return GrantedLease(answer.ID, float(answer.TTL))

    def keep_alive(self, lease: int) -> float:
        """Prolongs a lease by its ttl and returns that. Raises LeaseLapsed."""
        request = pb.LeaseKeepAliveRequest(ID=lease)
        answer = self._transport.ask("renew a lease at", rpc.LEASE_KEEP_ALIVE, request)
        if answer.TTL <= 0:
            raise LeaseLapsed(f"lease {lease:x} is gone from {self.name}")
        return float(answer.TTL)

    def keys_of(self, lease: int) -> tuple[str, ...]:
        """Returns the keys that a lease keeps. Raises LeaseLapsed."""
        request = pb.LeaseTimeToLiveRequest(ID=lease, keys=True)
        answer = self._transport.ask("read a lease of", rpc.LEASE_TIME_TO_LIVE, request)
        if answer.TTL < 0:
            raise LeaseLapsed(f"lease {lease:x} is gone from {self.name}")
        return tuple(map(key_text, answer.keys))

    def revoke(self, lease: int) -> None:
        """Ends a lease and removes its keys. Raises LeaseLapsed."""
        self._transport.ask("end a lease at", rpc.LEASE_REVOKE, pb.LeaseRevokeRequest(ID=lease))

    def watch(self, prefix: str, start: int) -> Watcher:
        """Returns a watcher of all changes below a prefix from revision `start` on (inclusive)."""
        return self._watching.watch(prefix, start)

    def close(self) -> None:
        """Ends all watchers and connections; idempotent. Leases stay until they lapse."""
        self._transport.close()

    def _list(self, prefix: str) -> Listing:
        start, end, page, revision, cluster = key_bytes(prefix), range_end(prefix), _PAGE, 0, 0
        entries: dict[str, Entry] = {}
        while True:
            request = pb.RangeRequest(key=start, range_end=end, limit=page, revision=revision)
            try:
                answer = self._transport.ask("list", rpc.RANGE, request)
            except rpc.TooLarge:
                if page == 1:
                    raise
                page = max(1, page // 8)
                continue
            if not revision:
                revision, cluster = answer.header.revision, answer.header.cluster_id
            entries.update((entry.key, entry) for entry in map(_entry, answer.kvs))
            if len(entries) > _MAX_ENTRIES:
                raise RegistryError(f"{self.name} has more than {_MAX_ENTRIES} entries below {prefix!r}")
            if not answer.more or not answer.kvs:
                return Listing(cluster, revision, entries)
            start = answer.kvs[-1].key + b"\0"


def _entry(message: pb.KeyValue) -> Entry:
    return Entry(key_text(message.key), message.value, message.mod_revision, message.lease)


def _compare(condition: Condition) -> pb.Compare:
    match condition:
        case Unchanged(key, revision):
            return pb.Compare(target=pb.Compare.MOD, key=key_bytes(key), mod_revision=revision)
        case Equals(key, value):
            return pb.Compare(target=pb.Compare.VALUE, key=key_bytes(key), value=value)


def _operation(change: Change) -> pb.RequestOp:
    match change:
        case Put(key, value, lease):
            return pb.RequestOp(request_put=pb.PutRequest(key=key_bytes(key), value=value, lease=lease))
        case Delete(key):
            return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key_bytes(key)))
