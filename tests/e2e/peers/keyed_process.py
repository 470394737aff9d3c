"""A process of keyed_client.py, as tests talk to it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.e2e.processes import entry_point

Outcome = tuple[Counter[str], Counter[str]]  # answers by server, errors by "CODE: details"


class KeyedClient:
    """Owned by the test that made it."""

    def __init__(self, kind: str, flavour: str, node: str, bootstrap: Mapping[str, Any]) -> None:
        """Starts it: `kind` mesh or stock, `flavour` sync or aio."""
        self.node = node
        # Not by its path: beside it, `envoy` would be envoy.py.
        self.process = entry_point(
            "tests.e2e.peers.keyed_client:main",
            *(kind, flavour),
            env={"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap)},
        )

    def call(self, service: str, key: str = "-", count: int = 5, method: str = "Say") -> Outcome:
        """Makes calls in turn; a key "-" is none."""
        found = json.loads(self.process.ask(f"xds:///{service} {key} {count} {method}"))
        return Counter(found["answers"]), Counter(found["errors"])

    def load(self, service: str, key: str = "-") -> None:
        """Calls without a pause until `unload`."""
        assert self.process.ask(f"load xds:///{service} {key}") == "loading"

    def unload(self) -> Outcome:
        """Stops that, and returns what came of it."""
        found = json.loads(self.process.ask("stop"))
        return Counter(found["answers"]), Counter(found["errors"])

    def answered(self, service: str, key: str, by: str) -> None:
        """Expects that all calls are answered by one server."""
        assert self.call(service, key) == ({by: 5}, {}), (self.node, service, key)

    def refused(self, service: str, key: str) -> Counter[str]:
        """Expects that all calls fail UNAVAILABLE; returns what they were told."""
        answers, errors = self.call(service, key)
        assert not answers
        assert all(error.startswith("UNAVAILABLE") for error in errors)
        return errors


def bootstrap(server: str, node: str, **section: Any) -> dict[str, Any]:
    """Returns a bootstrap for one control plane; `section`: further keys of the node."""
    return {
        "xds_servers": [{"server_uri": server, "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}],
        "node": {"id": node, "cluster": "test", **section},
    }
