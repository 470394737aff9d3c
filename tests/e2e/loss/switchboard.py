"""Woven callers and servers whose interception is turned off and on by TrafficSwitch.

Used by `test_switches` and by `benchmarks.loss_switches`, on a stage whose service has the name of this host.
"""

from __future__ import annotations

import socket

from tests.e2e.loss.stage import Server, Stage
from tests.e2e.processes import until

HOST = socket.gethostname().lower()  # the one name that every machine resolves to itself: direct calls need one
LABEL = "meshsdk.io/interception"
MORE = 20  # calls that show which way they go

_SWITCH = """\
apiVersion: meshsdk.io/v1alpha1
kind: TrafficSwitch
metadata: {{name: {name}}}
spec: {spec}
"""


class Switchboard:
    """Three woven servers, one that the mesh does not know, and callers; turns whole sides and single servers."""

    def __init__(self, stage: Stage, count: int = 16) -> None:
        self.stage = stage
        self._said: dict[str, str] = {}
        stage.serve(3)
        self.woven = list(stage.servers)
        (self.outside,) = stage.serve(1, how="plain", kind="sync", listen="[::]:0")
        target = f"{HOST}:{self.outside.address.rpartition(':')[2]}"
        for kind in ("sync", "aio"):
            stage.load(target, "--kind", kind, "--client", "stock", "--callers", str(count), woven=True)
        stage.load(f"xds:///{HOST}", "--kind", "aio", "--callers", str(count))
        stage.load(f"mesh:///{HOST}", "--kind", "sync", "--callers", str(count))
        stage.wait_load()

    def say(self, name: str, spec: str) -> None:
        """Sets one switch. All are in a file, which a control plane that comes back reads again."""
        self._said[name] = spec
        text = "---\n".join(_SWITCH.format(name=name, spec=spec) for name, spec in self._said.items())
        (self.stage.config / "switches.yaml").write_text(text)

    def callers(self, turn: str) -> None:
        """Turns the woven callers, and waits until calls go the other way."""
        before = len(self.outside.begun())
        self.say("callers", f'{{app: web, client: "{turn}"}}')
        if turn == "off":
            until(lambda: len(self.outside.begun()) > before + MORE, "calls go direct")
        else:
            until(self._nobody_outside, "no call goes direct")

    def _nobody_outside(self) -> bool:
        before = self.outside.begun()
        self.stage.goes_on(MORE)
        return self.outside.begun() == before

    def server(self, server: Server, turn: str) -> None:
        """Turns one server; `turned` waits for it."""
        self.say(server.name, f'{{app: "{HOST}", instances: [{server.name}], server: "{turn}"}}')

    def turned(self, server: Server, turn: str) -> None:
        """Waits until a server is online again and its entry says how."""

        def there() -> bool:
            entry = self.stage.entries().get(server.address, {})
            return entry.get("state") == "ONLINE" and (entry.get("labels", {}).get(LABEL) == "off") is (turn == "off")

        until(there, f"{server.name} is {turn}", 60)
