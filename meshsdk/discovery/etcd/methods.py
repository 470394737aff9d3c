"""The methods of etcd's v3 API that are called, by their paths, and what their failures mean.

Used by all of the client. Paths: https://github.com/etcd-io/etcd, api/etcdserverpb/rpc.proto.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from meshsdk.discovery.etcd import etcd_pb2 as pb
from meshsdk.errors import RegistryError

_AnswerT = TypeVar("_AnswerT")


class Compacted(RegistryError):
    """The revision asked for is no longer kept."""


class TooLarge(RegistryError):
    """The answer is larger than what is accepted in one message."""


class OutcomeUnknown(RegistryError):
    """A change was sent and not answered: it may or may not have been made."""


@dataclass(frozen=True, slots=True)
class Method(Generic[_AnswerT]):
    """A method of etcd's API. `repeatable`: asking twice does no harm, so after a loss another member is asked."""

    path: str
    answer: type[_AnswerT]
    repeatable: bool
    stream: bool = False


RANGE = Method("/etcdserverpb.KV/Range", pb.RangeResponse, repeatable=True)
TXN = Method("/etcdserverpb.KV/Txn", pb.TxnResponse, repeatable=False)
COMPACT = Method("/etcdserverpb.KV/Compact", pb.CompactionResponse, repeatable=False)
LEASE_GRANT = Method("/etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantResponse, repeatable=True)
LEASE_REVOKE = Method("/etcdserverpb.Lease/LeaseRevoke", pb.LeaseRevokeResponse, repeatable=True)
LEASE_KEEP_ALIVE = Method("/etcdserverpb.Lease/LeaseKeepAlive", pb.LeaseKeepAliveResponse, repeatable=True, stream=True)
LEASE_TIME_TO_LIVE = Method("/etcdserverpb.Lease/LeaseTimeToLive", pb.LeaseTimeToLiveResponse, repeatable=True)
WATCH = Method("/etcdserverpb.Watch/Watch", pb.WatchResponse, repeatable=True, stream=True)
AUTHENTICATE = Method("/etcdserverpb.Auth/Authenticate", pb.AuthenticateResponse, repeatable=True)
