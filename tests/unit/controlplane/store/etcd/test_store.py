"""What a store in etcd says of a change that failed."""

from __future__ import annotations

import pytest

from controlplane.store.etcd.store import EtcdStore
from controlplane.store.port import StoreError
from meshsdk.discovery.etcd.methods import OutcomeUnknown
from meshsdk.errors import RegistryError


class Client:
    """An etcd client whose writes fail."""

    name = "etcd"

    def __init__(self, failure: RegistryError) -> None:
        self._failure = failure

    def commit(self, *_: object) -> None:
        """Fails."""
        raise self._failure


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (OutcomeUnknown("DEADLINE_EXCEEDED"), "it is not known whether the change was made: look with meshctl get"),
        (RegistryError("failed to connect"), "nothing can be changed while the store is away"),
        (RegistryError("too many operations in txn request"), "apply smaller files"),
    ],
)
def test_a_change_that_failed_is_told_from_one_that_may_have_been_made(failure: RegistryError, words: str) -> None:
    """A write without an answer is said to be in doubt; one that was not sent, or was refused, is not."""
    store = EtcdStore(Client(failure), "/m", 1.0, 1.0)
    with pytest.raises(StoreError) as refused:
        store.change_resources([], [], 0)
    assert f"{failure}; {words}" in str(refused.value)
    assert ("not known" in str(refused.value)) == isinstance(failure, OutcomeUnknown)
