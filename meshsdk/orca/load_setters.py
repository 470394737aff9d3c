"""The metrics that a server may report, one setter each. Under `CallRecorder` and `ServerLoad`; keeps no state."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, Any

from meshsdk.lb.endpoint_load import LoadReport

if TYPE_CHECKING:
    from typing_extensions import Self


class LoadSetters(abc.ABC):
    """Setters return the object itself, so that they can be chained.

    All raise ValueError for a number that is not finite or is below 0, or above 1 where it is a share.
    """

    @abc.abstractmethod
    def _put(self, **fields: Any) -> None:
        """Takes new values for fields of `LoadReport`; of its maps, entries to add."""

    def cpu_utilization(self, value: float) -> Self:
        """CPU time used over CPU time to be had; may exceed 1."""
        self._put(cpu=_number("cpu_utilization", value))
        return self

    def application_utilization(self, value: float) -> Self:
        """How busy the application takes itself to be; may exceed 1. Counts before the CPU's (gRFC A58)."""
        self._put(application=_number("application_utilization", value))
        return self

    def memory_utilization(self, value: float) -> Self:
        """Memory used, 0-1."""
        self._put(memory=_share("memory_utilization", value))
        return self

    def qps(self, value: float) -> Self:
        """Queries a second that the server answers."""
        self._put(qps=_number("qps", value))
        return self

    def eps(self, value: float) -> Self:
        """Errors a second that it answers with."""
        self._put(eps=_number("eps", value))
        return self

    def utilization(self, name: str, value: float) -> Self:
        """How much of a resource of the application's own is used, 0-1."""
        self._put(utilization={name: _share(f"utilization {name!r}", value)})
        return self

    def named_metric(self, name: str, value: float) -> Self:
        """Any metric of the application's own."""
        if not isfinite(value):
            raise ValueError(f"metric {name!r} is {value}: a finite number is expected")
        self._put(named={name: value})
        return self


def merged(report: LoadReport, fields: Mapping[str, Any]) -> LoadReport:
    """Returns a report with these fields; entries are added to its maps."""
    whole: dict[str, Any] = {
        name: {**getattr(report, name), **value} if isinstance(value, Mapping) else value
        for name, value in fields.items()
    }
    return replace(report, **whole)


def over(report: LoadReport, under: LoadReport) -> LoadReport:
    """Returns `report` where it tells something, and `under` elsewhere."""
    return LoadReport(
        cpu=report.cpu or under.cpu,
        application=report.application or under.application,
        memory=report.memory or under.memory,
        qps=report.qps or under.qps,
        eps=report.eps or under.eps,
        utilization={**under.utilization, **report.utilization},
        costs={**under.costs, **report.costs},
        named={**under.named, **report.named},
    )


def _number(name: str, value: float) -> float:
    if not isfinite(value) or value < 0:
        raise ValueError(f"{name} is {value}: a finite number >= 0 is expected")
    return float(value)


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}: a number from 0 to 1 is expected")
    return float(value)
