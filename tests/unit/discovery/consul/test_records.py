"""Instances as Consul's services and back, and what others registered."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from meshsdk.discovery.consul import records
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance, InstanceState

FULL = Instance(
    "orders",
    "pod-1",
    "10.0.0.1:50051",
    revision="r1",
    unit="u",
    region="eu",
    zone="a",
    weight=7,
    labels={"version": "v1", "ünï": "köde", "long": "x" * 1000},
    state=InstanceState.DRAINING,
    started_at=1700000000.25,
)
FOREIGN = {
    "Node": {"Node": "n1", "Address": "10.1.0.1", "Datacenter": "dc1", "ModifyIndex": 3},
    "Service": {
        "ID": "web",
        "Service": "shop",
        "Address": "",
        "Port": 8080,
        "Tags": ["version=v2", "primary"],
        "Meta": {"owner": "team"},
        "Weights": {"Passing": 10, "Warning": 2},
        "ModifyIndex": 9,
    },
    "Checks": [{"CheckID": "serfHealth", "Status": "passing", "ServiceID": ""}],
}


def entry_of(instance: Instance) -> records.Entry:
    """The entry that Consul would answer with for what is registered."""
    body = json.loads(records.registration(instance, "check", 15.0, 60.0))
    service = {**body, "Service": body["Name"], "ModifyIndex": 5}
    return {"Node": FOREIGN["Node"], "Service": service, "Checks": [{"Status": body["Check"]["Status"]}]}


def changed(**fields: object) -> records.Entry:
    """The foreign service with other fields."""
    return {**FOREIGN, "Service": {**FOREIGN["Service"], **fields}}


@pytest.mark.parametrize(
    "instance",
    [
        FULL,
        Instance("orders", "1", "10.0.0.1:1"),
        replace(FULL, address="[fd00::1]:443", id="[fd00::1]:443"),
        replace(FULL, labels={}, state=InstanceState.STARTING),
    ],
)
def test_an_instance_comes_back_as_it_was_registered(instance):
    """Every field, whatever Consul has a field of its own for."""
    assert records.instance_of(entry_of(instance)) == instance


def test_metadata_keeps_consuls_limits():
    """Keys and values are of the size that an agent accepts, and their number too."""
    labels = {f"label-{number}": "v" * 400 for number in range(64)}
    meta = json.loads(records.registration(replace(FULL, labels=labels), "c", 15, 60))["Meta"]
    assert len(meta) <= 64
    assert all(len(value.encode()) <= 512 for value in meta.values())
    with pytest.raises(RegistryError, match="labels have"):
        records.registration(replace(FULL, labels={key: value * 2 for key, value in labels.items()}), "c", 15, 60)
    with pytest.raises(RegistryError, match="zone has more than the 512 bytes"):
        records.registration(replace(FULL, zone="ü" * 257), "c", 15, 60)


def test_the_check_tells_others_of_the_state():
    """It passes while the instance is ONLINE, warns otherwise, and says the state so that each change is seen."""
    for state, status in ((InstanceState.ONLINE, "passing"), (InstanceState.OFFLINE, "warning")):
        check = json.loads(records.registration(replace(FULL, state=state), "c", 2.5, 90))["Check"]
        assert (check["Status"], check["Notes"]) == (status, state.value)
        assert (check["TTL"], check["DeregisterCriticalServiceAfter"]) == ("2.5s", "90s")


def test_service_ids_are_unique_and_plain():
    """(app, id) is what counts; ids that a URL would mangle are hashed."""
    pairs = [("a", "b:c"), ("a:b", "c"), ("a", ":b"), ("a", "x/y"), ("a", "x y"), ("a", "é" * 200), ("a", "")]
    ids = [records.service_id(Instance(app, identifier, "h:1")) for app, identifier in pairs if ":" not in app]
    assert len(set(ids)) == len(ids)
    assert all(identifier.isascii() and "/" not in identifier and " " not in identifier for identifier in ids)


def test_a_foreign_service_is_an_instance():
    """Address of its node where it has none, tags and metadata as labels, weight as it is, region of the datacenter."""
    assert records.instance_of(FOREIGN) == Instance(
        "shop",
        "n1/web",
        "10.1.0.1:8080",
        region="dc1",
        weight=10,
        labels={"version": "v2", "primary": "", "owner": "team"},
    )


def test_a_foreign_service_that_warns_has_the_weight_of_that():
    """Consul's 0 becomes the least weight there is."""
    checks = [*FOREIGN["Checks"], {"CheckID": "disk", "Status": "warning", "ServiceID": "web"}]
    assert records.instance_of({**FOREIGN, "Checks": checks}).weight == 2
    entry = {**changed(Weights={"Passing": 5, "Warning": 0}), "Checks": checks}
    assert records.instance_of(entry).weight == 1


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({}, "no address or no port"),
        (changed(Port=0), "no address or no port"),
        (changed(Port="80"), "no address or no port"),
        (changed(Port=70000), "port"),
        (changed(Service="a name"), "not a name"),
        (changed(Meta=["a"]), "Meta"),
        (changed(Meta={"a": 1}), "Meta"),
        (changed(Meta={"meshsdk": "2"}), "later meshsdk"),
        (changed(Meta={"meshsdk": "1", "meshsdk_id": "1"}), "metadata cannot be read"),
        (changed(Meta={"meshsdk": "1", "meshsdk_state": "ONLINE"}), "instance id"),
        (changed(Weights={"Passing": "many"}), "not a number"),
        (changed(Weights={"Passing": 70000}), "weight"),
        (
            changed(Meta={"meshsdk": "1", "meshsdk_id": "1", "meshsdk_state": "ONLINE", "meshsdk_labels_0": "["}),
            "metadata cannot be read",
        ),
        (
            changed(Meta={"meshsdk": "1", "meshsdk_id": "1", "meshsdk_state": "ONLINE", "meshsdk_labels_0": "[1]"}),
            "not an object of strings",
        ),
    ],
)
def test_what_cannot_be_used_is_told_in_words(entry, words):
    """A RegistryError and nothing else, whatever others left."""
    with pytest.raises(RegistryError, match=words):
        records.instance_of(entry)


def test_critical_checks_end_an_instance():
    """Of the service or of its node; odd checks are no reason."""
    assert records.lives(FOREIGN)
    assert records.lives({**FOREIGN, "Checks": ["odd", {"Status": 5}]})
    assert records.lives({**FOREIGN, "Checks": "none"})
    assert not records.lives({**FOREIGN, "Checks": [{"CheckID": "serfHealth", "Status": "critical"}]})


def test_versions_differ_if_and_only_if_something_changed():
    """A registration, the node, a status."""
    version = records.version_of(FOREIGN)
    assert records.version_of(json.loads(json.dumps(FOREIGN))) == version
    assert records.version_of(changed(ModifyIndex=10)) != version
    assert records.version_of({**FOREIGN, "Node": {**FOREIGN["Node"], "ModifyIndex": 4}}) != version
    assert records.version_of({**FOREIGN, "Checks": [{"Status": "warning"}]}) != version
