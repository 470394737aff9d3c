"""The control socket of one service, which `meshsdk offline` talks to.

`{"do": "status"}` and `{"do": "offline"}` are its questions; both are answered with the service's report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from meshsdk.lifecycle.local_socket import LocalSocket
from meshsdk.lifecycle.run_directory import SUFFIX

Report = Callable[[], Mapping[str, object]]


class ControlSocket(LocalSocket):
    """Listens from `__init__` to `close`. Raises ConfigurationError and OSError where it cannot."""

    def __init__(self, report: Report, offline: Callable[[], None]) -> None:
        def answer(asked: Mapping[str, Any]) -> Mapping[str, object]:
            do = asked.get("do")
            if do not in ("status", "offline"):
                return {"problem": f"unknown question {str(do)[:40]!r}"}
            if do == "offline":
                offline()
            return report()

        super().__init__(answer, SUFFIX)
