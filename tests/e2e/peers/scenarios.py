"""What every foreign xDS client must be able to do with our control plane: one list, run once per peer.

A test module derives a class from `PeerScenarios` and gives it the fixture `peer`. Each test has a service of its own,
so that tests share one control plane and one peer process in any order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

import pytest
from google.protobuf.message import Message

from tests.e2e.peers import resources
from tests.e2e.peers.plane import Plane
from tests.e2e.processes import until


class Peer(Protocol):
    """A foreign client."""

    node: str

    def call(self, service: str, count: int = 10) -> tuple[Counter, Counter]:
        """Makes calls; returns (answers by backend, errors by "CODE: details")."""

    def stop(self) -> None:
        """Ends the client's process."""


def expect_answers(peer: Peer, service: str, *names: str) -> None:
    """Waits until ten calls in a row succeed and are answered by exactly the backends `names`."""

    def settled() -> bool:
        answers, errors = peer.call(service)
        assert not errors, errors
        assert set(answers) == set(names), answers
        return True

    until(settled, f"calls to {service} answered by {names}")


class PeerScenarios:
    """Derive, and provide the fixture `peer`; the attributes say where a peer differs from grpcio."""

    listener = staticmethod(resources.client_listener)
    reason = "eds_config"  # part of what the peer says about a cluster without an EDS source
    notices_same_return = True  # a resource that was withdrawn and comes back unchanged is taken up again

    @pytest.fixture
    def service(self, request: pytest.FixtureRequest) -> str:
        """A service name that no other test uses."""
        return request.node.name.replace("[", "-").replace("]", "").replace("_", "-")

    def chain(self, service: str, ports: Iterable[int], suffix: str = "") -> list[Message]:
        """Builds everything `service` consists of, from LDS to EDS; all but the listener named with `suffix`."""
        inner = service + suffix
        return [
            self.listener(service, inner),
            resources.routes(inner, {inner: 1}),
            resources.cluster(inner),
            resources.endpoints(inner, ports),
        ]

    def test_listener_to_endpoints(self, plane: Plane, peer: Peer, backends: dict[str, int], service: str) -> None:
        """A service published with two endpoints is resolved from LDS to EDS, and both get calls."""
        plane.publish(*self.chain(service, [backends["a"], backends["b"]]))
        expect_answers(peer, service, "a", "b")

    def test_endpoints_move(self, plane: Plane, peer: Peer, backends: dict[str, int], service: str) -> None:
        """An endpoint that is replaced while the peer watches is replaced for calls too."""
        plane.publish(*self.chain(service, [backends["a"]]))
        expect_answers(peer, service, "a")
        plane.publish(resources.endpoints(service, [backends["b"]]))
        expect_answers(peer, service, "b")

    def test_weights_shift(self, plane: Plane, peer: Peer, backends: dict[str, int], service: str) -> None:
        """Route weights that turn from all-old to all-new to half and half take calls along, without a failed call."""
        canary = f"{service}-canary"
        plane.publish(
            *self.chain(service, [backends["a"]]),
            resources.cluster(canary),
            resources.endpoints(canary, [backends["b"]]),
        )
        expect_answers(peer, service, "a")
        failed: Counter = Counter()

        def call_until(done: set[str], weights: dict[str, int]) -> None:
            plane.publish(resources.routes(service, weights))

            def seen() -> bool:
                answers, errors = peer.call(service, 20)
                failed.update(errors)
                return set(answers) == done

            until(seen, f"calls answered by {done} at {weights}")

        call_until({"b"}, {canary: 1})
        call_until({"a", "b"}, {service: 50, canary: 50})
        assert not failed

    def test_removal(self, plane: Plane, peer: Peer, backends: dict[str, int], service: str) -> None:
        """A service that is withdrawn is gone: calls fail UNAVAILABLE, and work again when it is back."""
        chain = self.chain(service, [backends["a"]])
        plane.publish(*chain)
        expect_answers(peer, service, "a")
        plane.withdraw(*chain)

        def gone() -> bool:
            answers, errors = peer.call(service)
            assert not answers, answers
            return all(error.startswith("UNAVAILABLE") for error in errors)

        until(gone, "calls to fail")
        plane.publish(*self.chain(service, [backends["b"]], "" if self.notices_same_return else "-back"))
        expect_answers(peer, service, "b")

    def test_refusal_is_reported(self, plane: Plane, peer: Peer, backends: dict[str, int], service: str) -> None:
        """A resource the peer refuses shows with its reason in the client table; the last good one stays in force."""
        plane.publish(*self.chain(service, [backends["a"]]))
        expect_answers(peer, service, "a")
        refused = resources.cluster(service)
        refused.eds_cluster_config.eds_config.Clear()

        def reported() -> bool:
            refusal = plane.refusal(peer.node)
            assert self.reason in refusal, refusal
            return True

        try:
            plane.publish(refused)
            until(reported, "the reason in the client table")
            expect_answers(peer, service, "a")
        finally:
            plane.publish(resources.cluster(service))
        until(lambda: not plane.refusal(peer.node), "the client table to show that the mended cluster is accepted")
        plane.publish(resources.endpoints(service, [backends["b"]]))
        expect_answers(peer, service, "b")

    def test_control_plane_restarts(self, plane: Plane, peer: Peer, backends: dict[str, int], service: str) -> None:
        """Calls go on while the control plane is away; what changed meanwhile arrives once it is back."""
        plane.publish(*self.chain(service, [backends["a"]]))
        expect_answers(peer, service, "a")
        plane.stop()
        try:
            answers, errors = peer.call(service, 20)
            plane.publish(resources.endpoints(service, [backends["b"]]))
        finally:
            plane.start()
        assert (dict(answers), dict(errors)) == ({"a": 20}, {})
        expect_answers(peer, service, "b")
        plane.publish(resources.endpoints(service, [backends["a"]]))
        expect_answers(peer, service, "a")
