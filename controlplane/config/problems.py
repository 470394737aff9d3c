"""What is wrong with a configuration, said as `file:line: path: what`. Raised and listed by everything in `config`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controlplane.model.identity import Origin
from meshsdk.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding at one place; also used for warnings (fields that have no effect, hosts not seen yet)."""

    where: Origin
    what: str

    def __str__(self) -> str:
        """Returns `file:line: path: what`, without the path for a whole document."""
        path = f" {self.where.path}:" if self.where.path else ""
        return f"{self.where}:{path} {self.what}"


class ConfigurationRefused(ConfigurationError):
    """A configuration cannot be used. `problems` holds every finding; the text holds one a line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class FieldRefused(Exception):
    """A field cannot be used: the reading of its document ends here."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))
