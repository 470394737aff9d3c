"""Revisions and the mapping from gRPC services to applications, the same for every adapter."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance, MethodInfo, Revision
from tests.contract.registries.lab import Feature, Lab, needs

ORDERS = Revision(
    "orders", "r", (MethodInfo("/shop.Orders/Get", {"idempotent": True, "timeout": 2.0}), MethodInfo("/shop.X/Y"))
)


def content(revision: Revision | None) -> list[tuple[str, dict[str, object]]]:
    """Returns what a revision holds, in a form that compares."""
    assert revision is not None
    return sorted((method.name, dict(method.options)) for method in revision.methods)


@needs(Feature.CATALOG)
def test_a_revision_comes_back_as_it_was_published(lab):
    """Published twice by one client, it is read by another; one that was never published is None."""
    registry, reader = lab.open(), lab.open()
    assert reader.get_revision("orders", "r") is None
    registry.publish_revision(ORDERS)
    registry.publish_revision(ORDERS)
    found = reader.get_revision("orders", "r")
    assert (found.app, found.revision) == ("orders", "r")
    assert content(found) == content(ORDERS)
    assert reader.get_revision("orders", "r2") is None
    assert reader.get_revision("users", "r") is None


def publish(lab: Lab, *revisions: Revision) -> None:
    """Publishes revisions, each with an instance that has it: registries may map only what is in use."""
    registry = lab.open()
    for number, revision in enumerate(revisions):
        registry.publish_revision(revision)
        address = f"10.0.0.{number + 1}:50051"
        lab.writer.register(Instance(revision.app, address, address, revision=revision.revision), 60.0)


@needs(Feature.CATALOG)
def test_services_lead_to_their_applications(lab):
    """A service maps to every application with a revision in use that serves it, by its whole name only."""
    archive = Revision("archive", "1", (MethodInfo("/shop.Orders/Get"),))
    publish(lab, ORDERS, archive, replace(ORDERS, revision="r2", methods=(MethodInfo("/shop.New/Get"),)))
    reader = lab.open()
    assert reader.map_service("shop.Orders") == ("archive", "orders")
    assert reader.map_service("shop.New") == ("orders",)
    assert reader.map_service("shop.Order") == ()
    assert reader.map_service("shop") == ()


@needs(Feature.CATALOG)
def test_a_large_revision_is_kept_whole(lab):
    """300 services of 5 methods each with options come back, and each service is mapped."""
    methods = tuple(
        MethodInfo(f"/pkg{service}.Service/Method{n}", {"timeout": n, "note": "x" * 40})
        for service in range(300)
        for n in range(5)
    )
    large = Revision("large", "1", methods)
    publish(lab, large)
    reader = lab.open()
    assert content(reader.get_revision("large", "1")) == content(large)
    for service in (0, 150, 299):
        assert reader.map_service(f"pkg{service}.Service") == ("large",)


@needs(Feature.CATALOG)
def test_a_revision_that_cannot_be_is_refused(lab):
    """One without a name is refused, and changes nothing."""
    registry = lab.open()
    with pytest.raises(RegistryError):
        registry.publish_revision(replace(ORDERS, revision=""))
    assert registry.map_service("shop.Orders") == ()
