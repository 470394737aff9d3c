"""The cluster type `meshsdk.clusters.registry`: what of it is read, and what is refused in which words."""

from __future__ import annotations

import pytest

from meshsdk.errors import InvalidResource
from meshsdk.model.migration import Migration
from meshsdk.model.resources import Cluster, Kind, RegistrySource
from meshsdk.xds_client.codec import decode
from meshsdk.xds_client.registry_names import checking
from tests.unit.xds_client.codec.messages import Json, cluster

STRUCT = "type.googleapis.com/xds.type.v3.TypedStruct"
TYPE = "type.googleapis.com/meshsdk.clusters.registry.v1.RegistryCluster"
AT = "cluster_type.typed_config"


def raw(value: Json | None = None, struct: str = TYPE, config: Json | None = None) -> bytes:
    """A cluster whose endpoints come from a registry."""
    typed = config or {"@type": STRUCT, "type_url": struct, "value": value or {}}
    kind = {"name": "meshsdk.clusters.registry", "typed_config": typed}
    return cluster(type=None, eds_cluster_config=None, cluster_type=kind)


def read(value: Json) -> Cluster:
    """The accepted cluster."""
    resource = decode(Kind.CLUSTER, raw(value))[1]
    assert isinstance(resource, Cluster)
    return resource


def refusal(*args, **kwargs) -> str:
    """The text of the NACK."""
    with pytest.raises(InvalidResource) as caught:
        decode(Kind.CLUSTER, raw(*args, **kwargs))
    return str(caught.value)


def test_an_application():
    """The contract's three fields."""
    found = read({"registry": "default", "app": "orders", "unit": "hz"})
    assert found.source == RegistrySource("default", "orders", "hz")
    assert found.ignored == ()


def test_a_service_with_its_migration_and_a_subset():
    """All fields; labels are ordered, so that equal ones are equal."""
    labels = {"version": "v1", "env": "prod"}
    found = read({"registry": "r", "interface": "shop.Orders", "migration": "FORCE_INTERFACE", "labels": labels})
    assert found.source == RegistrySource(
        "r", "", "", "shop.Orders", Migration.FORCE_INTERFACE, (("env", "prod"), ("version", "v1"))
    )


def test_what_is_not_known_is_listed():
    """A field of a later version has no effect, and is not passed over in silence."""
    assert read({"registry": "r", "app": "a", "shard": 1}).ignored == (f"{AT}.value.shard",)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"app": "orders"}, f"{AT}.value.registry: is not set"),
        ({"registry": "", "app": "orders"}, f"{AT}.value.registry: is not set"),
        ({"registry": "r"}, f"{AT}.value: sets neither app nor interface"),
        ({"registry": 1, "app": "orders"}, f"{AT}.value.registry: must be a string"),
        ({"registry": "r", "app": None}, f"{AT}.value.app: must be a string"),
        ({"registry": "r", "app": "a" * 257}, f"{AT}.value.app: is longer than 256 characters"),
        ({"registry": "r", "app": "a", "migration": "LATER"}, f"{AT}.value.migration: 'LATER' is none of FORCE_INT"),
        ({"registry": "r", "app": "a", "labels": "v1"}, f"{AT}.value.labels: must be a struct"),
        ({"registry": "r", "app": "a", "labels": {"v": 1}}, f"{AT}.value.labels.v: must be a string"),
        ({"registry": "r", "app": "a", "labels": {"v": "x" * 1025}}, f"{AT}.value.labels.v: is longer than 1024"),
        ({"registry": "r", "app": "a", "labels": dict.fromkeys(map(str, range(65)), "")}, "has 65 labels, at most 64"),
    ],
)
def test_refusals(value, words):
    """Every refusal names the field and what is wrong with it."""
    assert words in refusal(value)


def test_other_configurations_are_refused():
    """The name promises a TypedStruct of one type, and nothing else is taken for it."""
    assert f"{AT}.type_url: must be {TYPE}, is 'x/y.Z'" in refusal({}, "x/y.Z")
    other = {"@type": "type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig", "clusters": ["a"]}
    assert f"{AT}: must be an xds.type.v3.TypedStruct, is 'envoy" in refusal(config=other)


def test_a_registry_that_the_client_does_not_have():
    """The bootstrap's registries are the only ones: others are refused, with the names that there are."""
    checked = checking(decode, {"default": 1, "central": 2})
    assert checked(Kind.CLUSTER, raw({"registry": "central", "app": "orders"}))[0] == "orders"
    with pytest.raises(InvalidResource, match=r"'orders'.*'other' is not among .*\(central, default\)") as caught:
        checked(Kind.CLUSTER, raw({"registry": "other", "app": "orders"}))
    assert caught.value.name == "orders"
    assert checked(Kind.CLUSTER, cluster())[0] == "orders"
