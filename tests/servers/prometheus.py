"""A real Prometheus (Debian's package), for tests of alert rules."""

from __future__ import annotations

import contextlib
import http.client
import json
import urllib.parse
from pathlib import Path

from tests.e2e.processes import program
from tests.servers.process import ServerProcess


class Prometheus(ServerProcess):
    """Scrapes and evaluates every second; `targets` are `host:port` by job, `rules` files of alerts."""

    kind = "Prometheus"

    def __init__(self, targets: dict[str, str], rules: list[Path]) -> None:
        super().__init__()
        self._targets = targets
        self._rules = rules

    def _command(self) -> list[str]:
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(path) for path in self._rules],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in self._targets.items()
            ],
        }
        (self.folder / "prometheus.json").write_text(json.dumps(configuration))  # JSON is YAML
        return [
            program("prometheus"),
            f"--config.file={self.folder / 'prometheus.json'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}",
        ]

    def _answers(self) -> bool:
        return self._get("/-/ready")[0] == 200

    def firing(self) -> dict[str, dict[str, str]]:
        """Returns the labels of the alerts that fire now, by name."""
        alerts = json.loads(self._get("/api/v1/alerts")[1])["data"]["alerts"]
        return {one["labels"]["alertname"]: one["labels"] for one in alerts if one["state"] == "firing"}

    def _get(self, path: str) -> tuple[int, bytes]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def takes(self, query: str) -> bool:
        """Tells whether a PromQL query is one."""
        return self._get(f"/api/v1/query?query={urllib.parse.quote(query)}")[0] == 200
