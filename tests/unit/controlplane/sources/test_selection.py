"""Which state of each source is in force: the newest, or the last good one where it does not fit."""

from __future__ import annotations

import pytest

from controlplane.config.documents import parse
from controlplane.config.problems import ConfigurationRefused
from controlplane.sources.selection import APPLIED, FILES, Settled, Source, settle

SERVICE = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {0}}}
spec: {{hosts: [{1}], ports: [{{number: 80, name: grpc}}]}}
"""
ROUTES = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec: {hosts: [orders], http: [{route: [{destination: {host: orders, subset: v1}}]}]}
"""


def sources(files: str = "", applied: str = "", *others: str) -> list[Source]:
    """Returns sources with these newest states and nothing in force."""
    texts = {FILES: files, APPLIED: applied, **{f"xds://{index}": text for index, text in enumerate(others)}}
    return [Source(name, parse(text, name)) for name, text in texts.items()]


def names(settled: Settled) -> list[str]:
    """Returns the names of the resources in force, with where they are from."""
    return [f"{entry.file}:{entry.id.name}" for entry in settled.accepted.entries]


def service(name: str, host: str = "") -> str:
    """Returns a ServiceEntry."""
    return SERVICE.format(name, host or name)


def test_all_that_fits_is_in_force() -> None:
    """Files first, then what was applied, then other control planes in their order."""
    settled = settle(sources(service("a"), service("b"), service("c"), service("d")))
    assert names(settled) == ["files:a", "applied:b", "xds://0:c", "xds://1:d"]
    assert settled.problems == ()
    assert all(source.settled for source in settled.sources)


def test_the_higher_source_hides_the_same_resource_of_a_lower_one() -> None:
    """One identity in four places: the files' counts, and each hidden one is a warning."""
    settled = settle(sources(service("a"), service("a"), service("a"), service("a")))
    assert names(settled) == ["files:a"]
    assert [str(warning) for warning in settled.accepted.warnings()] == [
        "files:1: ServiceEntry/a hides the one that was applied; delete it or change the file",
        "files:1: ServiceEntry/a hides the one in xds://0",
        "files:1: ServiceEntry/a hides the one in xds://1",
    ]


def test_a_host_that_is_claimed_here_hides_what_others_say_of_it() -> None:
    """Another control plane's resource of another name for the same host is hidden, not refused."""
    settled = settle(sources(service("a", "orders"), "", service("b", "orders") + "---\n" + service("c")))
    assert names(settled) == ["files:a", "xds://0:c"]
    (warning,) = settled.accepted.warnings()
    assert str(warning) == "files:1: ServiceEntry/a has a host of ServiceEntry/b and hides it: the one in xds://0"


def test_only_the_source_that_does_not_fit_falls_back() -> None:
    """A bad state of one source leaves it on its last good one; the news of the others are in force."""
    first = settle(sources(service("a"), service("b"), service("c")))
    files, applied, other = first.sources
    later = [
        Source(FILES, parse(service("a2"), FILES), files.good),
        Source(APPLIED, applied.newest, applied.good),
        Source(other.name, parse(ROUTES, other.name), other.good),
    ]
    settled = settle(later)
    assert names(settled) == ["files:a2", "applied:b", "xds://0:c"]
    assert [str(problem) for problem in settled.problems] == [
        "xds://0:4: spec.http[0].route[0].destination: unknown subset v1: no DestinationRule is for the host orders"
    ]
    assert [source.settled for source in settled.sources] == [True, True, False]


def test_of_two_that_do_not_fit_together_the_lower_one_falls_back() -> None:
    """Files and an apply that contradict each other: what was applied before stays."""
    first = settle(sources("", service("b")))
    files, applied = first.sources
    later = [
        Source(FILES, parse(service("x", "orders"), FILES), files.good),
        Source(APPLIED, parse(service("y", "orders"), APPLIED), applied.good),
    ]
    assert names(settle(later)) == ["files:x", "applied:b"]
    with pytest.raises(ConfigurationRefused, match="are both for the host orders"):
        settle(later, required=(FILES, APPLIED))
    assert names(settle(later, required=(APPLIED,))) == ["applied:y"]
