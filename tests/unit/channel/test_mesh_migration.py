"""Mesh.set_migration: what is taken for a mode."""

from __future__ import annotations

import pytest

from meshsdk.channel.mesh import Mesh
from meshsdk.errors import ConfigurationError
from meshsdk.model.migration import Migration

BOOTSTRAP = {"meshsdk": {"registries": {"default": {"url": "memory://migration"}}}}


@pytest.mark.parametrize("mode", [Migration.FORCE_INTERFACE, "FORCE_INTERFACE"])
def test_a_mode_or_its_name(mode, monkeypatch):
    """Both arrive as the mode; None takes it back."""
    with Mesh(BOOTSTRAP) as mesh:
        set_to = []
        monkeypatch.setattr(mesh._feeds, "migrate", lambda *given: set_to.append(given))
        mesh.set_migration("shop.Orders", mode)
        mesh.set_migration("shop.Orders", None)
    assert set_to == [("shop.Orders", Migration.FORCE_INTERFACE), ("shop.Orders", None)]


@pytest.mark.parametrize(
    ("service", "mode", "words"),
    [
        ("shop.Orders", "INTERFACE", r"the mode for 'shop.Orders' is 'INTERFACE'; give None, .* \(FORCE_INTERFACE, "),
        ("shop.Orders", 5, "the mode for 'shop.Orders' is 5"),
        ("shop.Orders", ["FORCE_INTERFACE"], "the mode for 'shop.Orders' is"),
        ("", Migration.FORCE_INTERFACE, "the service is ''"),
        (None, None, "the service is None"),
    ],
)
def test_what_is_no_mode(service, mode, words):
    """It is refused in words, and nothing is set."""
    with Mesh(BOOTSTRAP) as mesh:
        with pytest.raises(ConfigurationError, match=words):
            mesh.set_migration(service, mode)
        assert mesh._modes == {}
