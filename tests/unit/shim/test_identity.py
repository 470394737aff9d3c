"""Who a shim is, to the control plane and in the registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshsdk.bootstrap import load_bootstrap
from meshsdk.errors import ConfigurationError
from meshsdk.model.instance import InstanceState
from meshsdk.shim import identity
from meshsdk.shim.settings import Inbound, Settings

_SERVER = {"server_uri": "127.0.0.1:1", "channel_creds": [{"type": "insecure"}]}
_SETTINGS = Settings(
    "orders",
    Path("/run/shim"),
    (Inbound("10.0.0.1:80", "127.0.0.1:81"),),
    address="10.0.0.1:80",
    labels={"version": "v2"},
)


def node(given: dict | None = None, settings: Settings = _SETTINGS):
    """Returns the node of a shim whose bootstrap has this one."""
    return identity.identified(load_bootstrap({"xds_servers": [_SERVER], "node": given or {}}, {}), settings).node


def test_a_bare_bootstrap_is_completed() -> None:
    """Without a node the shim has an id of its own, and the application's name and labels."""
    one, other = node(), node()
    assert one.id.startswith("shim-")
    assert one.id != other.id
    assert one.cluster == "orders"
    assert one.metadata["LABELS"] == {"app": "orders", "version": "v2"}


def test_what_the_bootstrap_says_stays() -> None:
    """Its id, cluster and labels count; labels of the command line are above those."""
    given = {
        "id": "n1",
        "cluster": "c",
        "metadata": {"UNIT": "east", "LABELS": {"app": "shop", "version": "v1", "x": "1"}},
    }
    found = node(given)
    assert (found.id, found.cluster, found.metadata["UNIT"]) == ("n1", "c", "east")
    assert found.metadata["LABELS"] == {"app": "shop", "version": "v2", "x": "1"}


def test_the_application_and_the_shim_in_the_registry() -> None:
    """The application is STARTING at its address; the shim is an instance of its own, called as its node is."""
    found = node({"id": "n1", "locality": {"region": "eu", "zone": "a"}})
    application = identity.application(_SETTINGS, found)
    assert (application.app, application.address, application.zone) == ("orders", "10.0.0.1:80", "a")
    assert application.state is InstanceState.STARTING
    assert application.labels["version"] == "v2"
    shim = identity.itself(_SETTINGS, found)
    assert (shim.app, shim.id, shim.address) == ("meshsdk.shim", "n1", "10.0.0.1:80")
    assert (shim.labels["meshsdk.io/app"], shim.labels["meshsdk.io/phase"]) == ("orders", "running")


def test_what_no_registry_takes_is_refused() -> None:
    """A weight that is none is said before anything starts."""
    settings = Settings("orders", Path("/run/shim"), _SETTINGS.inbound, address="10.0.0.1:80", weight=0)
    with pytest.raises(ConfigurationError, match="weight 0"):
        identity.application(settings, node())
