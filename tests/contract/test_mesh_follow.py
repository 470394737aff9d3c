"""Mesh.follow, by which `depends_on` waits: an application is there when an endpoint of it takes calls."""

from __future__ import annotations

from urllib.parse import urlsplit

from meshsdk.channel.mesh import Mesh
from meshsdk.discovery.memory import open_url
from meshsdk.model.instance import Instance, InstanceState
from tests.e2e.processes import until

URL = "memory://test-mesh-follow"


def test_an_application_without_an_instance_that_takes_calls_is_lacking():
    """No instance, then one that is STARTING: words; ONLINE: nothing is lacking any more."""
    registry = open_url(urlsplit(URL))
    told: list[str] = []
    with Mesh({"meshsdk": {"registries": {"default": {"url": URL}}}}) as mesh:
        end = mesh.follow("mesh:///payments", told.append)
        until(lambda: told != [], "it was told of none")
        assert told[-1] != ""
        lease = registry.register(
            Instance(app="payments", id="1", address="127.0.0.1:1", state=InstanceState.STARTING), 600.0
        )
        registry.set_state(lease, InstanceState.ONLINE)
        until(lambda: told[-1] == "", "it was told of one")
        assert "" not in told[:-1]
        end()
    registry.close()
