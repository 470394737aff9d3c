"""One turn off and on again, as it is asked of a running service; `course` performs it.

Made by `Service.cycle` and its asyncio twin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from meshsdk.discovery.limits import instance_problem
from meshsdk.errors import ConfigurationError
from meshsdk.model.instance import Instance


@dataclass(frozen=True, slots=True, eq=False)
class Cycle:
    """Go offline, perform `change`, go online with `labels` changed (None: removed). `result`: whether it was quiet."""

    change: Callable[[], object]
    labels: Mapping[str, str | None]
    result: Future[bool] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.result.set_running_or_notify_cancel()  # from now on whoever waits for it cannot cancel it


def make_cycle(change: Callable[[], object], labels: Mapping[str, str | None] | None, instance: Instance) -> Cycle:
    """Builds a cycle of `instance`. Raises ConfigurationError for labels that no registry takes."""
    changed = dict(labels or {})
    odd: list[object] = [pair for pair in changed.items() if not _is_label(*pair)]
    if odd:
        raise ConfigurationError(f"cycle(labels=...): {odd[0]!r} must be text for text, or None to remove")
    merged = {name: text for name, text in {**instance.labels, **changed}.items() if text is not None}
    if problem := instance_problem(replace(instance, labels=merged)):
        raise ConfigurationError(f"cycle(labels=...): {problem}")
    return Cycle(change, changed)


def _is_label(name: object, text: object) -> bool:
    return isinstance(name, str) and (text is None or isinstance(text, str))
