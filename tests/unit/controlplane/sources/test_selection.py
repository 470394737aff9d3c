"""Which state of each source is in force: the newest, or the last good one where it does not fit."""

from __future__ import annotations

from dataclasses import replace

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


RULE = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: orders}}
spec: {{host: orders, subsets: [{{name: {0}, labels: {{version: {0}}}}}]}}
"""


def joined(*texts: str) -> str:
    """Returns the texts as documents of one."""
    return "---\n".join(texts)


@pytest.mark.parametrize("files_first", [True, False])
def test_what_does_not_fit_to_a_higher_source_is_left_out_by_itself(files_first: bool) -> None:
    """A file's rule hides another control plane's; the routes that need that are left out, in whatever order heard."""
    up = parse(joined(RULE.format("v1"), ROUTES, service("pay")), "xds://0")
    files = parse(RULE.format("v2"), FILES)
    empty = settle([Source(FILES), Source(APPLIED), Source("xds://0", heard=False)])
    for name in (FILES, "xds://0") if files_first else ("xds://0", FILES):
        told = {FILES: files, "xds://0": up}[name]
        news = [replace(each, newest=told, heard=True) if each.name == name else each for each in empty.sources]
        empty = settle(news, known=empty.accepted)
    assert names(empty) == ["files:orders", "xds://0:pay"]
    assert empty.problems == ()
    texts = [str(warning) for warning in empty.accepted.warnings()]
    assert "files:1: DestinationRule/orders hides the one in xds://0" in texts
    assert any("VirtualService/orders is left out: unknown subset v1 of orders" in text for text in texts)


def test_a_lower_resource_that_a_higher_one_does_not_fit_to_is_left_out() -> None:
    """A file's routes name a port; another control plane's service of another port goes, not the routes."""
    routes = ROUTES.replace("subset: v1", "port: {number: 81}")
    settled = settle(sources(routes, "", joined(service("orders"), service("pay"))))
    assert names(settled) == ["files:orders", "xds://0:pay"]
    assert any("ServiceEntry/orders is left out" in str(warning) for warning in settled.accepted.warnings())


def test_what_may_refer_to_an_unheard_source_waits() -> None:
    """At the start files may name what another control plane has: they wait for it, and are judged once it is heard."""
    files = parse(joined(ROUTES, service("a")), FILES)
    begun = settle([Source(FILES, files), Source(APPLIED), Source("xds://0", heard=False)], required=(FILES,))
    assert names(begun) == ["files:a"]
    assert "it waits for xds://0, which has not told" in str(begun.problems[0])
    for text, expected in ((RULE.format("v1"), ["files:orders", "files:a", "xds://0:orders"]), ("", ["files:a"])):
        told = [*begun.sources[:2], Source("xds://0", parse(text, "xds://0"))]
        after = settle(told, known=begun.accepted)
        assert names(after) == expected
        assert bool(after.problems) is (expected == ["files:a"])
    with pytest.raises(ConfigurationRefused, match="unknown subset v1"):
        settle([Source(FILES, files), Source(APPLIED)], required=(FILES,))


def test_files_win_over_what_was_applied() -> None:
    """A file for a host that was applied comes into force, and what was applied is left out; an apply is refused."""
    later = sources(service("x", "orders"), service("y", "orders"))
    settled = settle(later)
    assert names(settled) == ["files:x"]
    assert "are both for the host orders" in str(settled.problems[0])
    with pytest.raises(ConfigurationRefused, match="are both for the host orders"):
        settle(later, required=(APPLIED,))


def test_a_source_that_contradicts_itself_stays_on_its_last_good_state() -> None:
    """Two services for one host from one control plane: refused by themselves, the last good state stays."""
    first = settle(sources(service("a"), "", service("b")))
    news = parse(joined(service("x", "stock"), service("y", "stock")), "xds://0")
    after = settle([*first.sources[:2], replace(first.sources[2], newest=news)], known=first.accepted)
    assert names(after) == ["files:a", "xds://0:b"]
    assert "are both for the host stock" in str(after.problems[0])
    assert not after.sources[2].settled
