"""The configuration in force: what changes it, and what leaves the last good one as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.config.problems import ConfigurationRefused
from controlplane.configured import Configured, NoSuchResource, Planned
from controlplane.model.identity import ResourceId, ResourceKind
from controlplane.store.memory import MemoryStore

SERVICE = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {0}}}
spec: {{hosts: [{0}], ports: [{{number: {1}, name: grpc}}]}}
"""
RULE = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders}
spec: {host: orders, subsets: [{name: v1, labels: {version: v1}}]}
"""
ROUTES = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec: {hosts: [orders], http: [{route: [{destination: {host: orders, subset: v1}}]}]}
"""
ORDERS = ResourceId(ResourceKind.SERVICE_ENTRY, "default", "orders")


class Driven(Configured):
    """A configuration with a store of its own, changed as the plane does it: planned, written, taken over."""

    def __init__(self, directory: Path | None, store: MemoryStore, others: tuple[str, ...] = ()) -> None:
        super().__init__(directory, store.resources(), others)
        self._store = store
        self.begin()

    def apply(self, text: str, file: str) -> list[str]:
        """Applies `text`; returns the outcomes."""
        planned = self.plan_apply(text, file)
        self._write(planned)
        return [each.outcome for each in planned.done]

    def delete(self, identity: ResourceId) -> None:
        """Deletes an applied resource."""
        self._write(self.plan_delete(identity))

    def _write(self, planned: Planned) -> None:
        self._store.change_resources(list(planned.put), list(planned.removed))
        self.change_applied(planned.put, planned.removed)


def begun(directory: Path | None, store: MemoryStore | None = None, *others: str) -> Driven:
    """Returns a configuration that has read its files."""
    return Driven(directory, store or MemoryStore(), others)


def hosts(configured: Configured) -> list[str]:
    """Returns the hosts of the services in force."""
    return sorted(configured.accepted.configuration.services)


def look(configured: Configured) -> bool:
    """Looks until the files have settled."""
    return configured.look() or configured.look()


def test_files_are_followed(tmp_path: Path) -> None:
    """A new file comes into force; nothing is done while nothing changes."""
    (tmp_path / "a.yaml").write_text(SERVICE.format("orders", 80))
    configured = begun(tmp_path)
    assert hosts(configured) == ["orders"]
    assert not look(configured)
    (tmp_path / "b.yaml").write_text(SERVICE.format("users", 80))
    assert look(configured)
    assert hosts(configured) == ["orders", "users"]


def test_half_written_file_is_not_taken_up(tmp_path: Path) -> None:
    """A file that is emptied and then written is read only once it has stopped changing."""
    file = tmp_path / "a.yaml"
    file.write_text(SERVICE.format("orders", 80))
    configured = begun(tmp_path)
    file.write_text("")
    assert not configured.look()
    file.write_text(SERVICE.format("orders", 8080))
    assert not configured.look()
    assert hosts(configured) == ["orders"]
    assert configured.look()
    assert configured.accepted.configuration.services["orders"].ports[0].number == 8080


def test_bad_files_leave_the_last_good_ones_in_force(tmp_path: Path) -> None:
    """A broken file changes nothing but `problems`, which go when it is mended."""
    file = tmp_path / "a.yaml"
    file.write_text(SERVICE.format("orders", 80))
    configured = begun(tmp_path)
    file.write_text(SERVICE.format("users", "many"))
    assert look(configured)
    assert hosts(configured) == ["orders"]
    assert [str(problem) for problem in configured.problems] == [
        f"{file}:4: spec.ports[0].number: expected a whole number, got the string many"
    ]
    file.write_text(SERVICE.format("users", 8080))
    assert look(configured)
    assert (hosts(configured), configured.problems) == (["users"], ())


def test_directory_that_goes_away_is_reported_once(tmp_path: Path) -> None:
    """Files that vanish with their directory stay in force; the trouble is said once and ends when it is back."""
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "a.yaml").write_text(SERVICE.format("orders", 80))
    configured = begun(folder)
    folder.rename(tmp_path / "away")
    assert look(configured)
    assert not look(configured)
    assert "cannot read the configuration directory" in str(configured.problems[0])
    assert hosts(configured) == ["orders"]
    (tmp_path / "away").rename(folder)
    assert look(configured)
    assert configured.problems == ()


def test_first_files_must_be_good(tmp_path: Path) -> None:
    """There is nothing to fall back to at the start: bad files refuse it."""
    (tmp_path / "a.yaml").write_text("a: 1")
    with pytest.raises(ConfigurationRefused):
        begun(tmp_path)


def test_apply_creates_changes_and_leaves_unchanged() -> None:
    """Each outcome is told; all of a file comes into force together."""
    configured = begun(None)
    text = SERVICE.format("orders", 80) + "---\n" + SERVICE.format("users", 80)
    assert configured.apply(text, "f.yaml") == ["created", "created"]
    text = SERVICE.format("orders", 80) + "---\n" + SERVICE.format("users", 81)
    assert configured.apply(text, "f.yaml") == ["unchanged", "changed"]
    assert configured.accepted.configuration.services["users"].ports[0].number == 81


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "f.yaml:1: holds no resource"),
        (SERVICE.format("users", 0), "f.yaml:4: spec.ports[0].number: expected 1 to 65535, got 0"),
        (ROUTES, "f.yaml:4: spec.http[0].route[0].destination: unknown subset v1"),
        (SERVICE.format("users", 1) + "---\n" + SERVICE.format("users", 2), "f.yaml:6: ServiceEntry/users is defined"),
    ],
)
def test_refused_apply_changes_nothing(text: str, reason: str) -> None:
    """What cannot be used is refused whole, and neither kept nor in force."""
    store = MemoryStore()
    configured = begun(None, store)
    configured.apply(SERVICE.format("orders", 80), "f.yaml")
    with pytest.raises(ConfigurationRefused) as caught:
        configured.apply(text, "f.yaml")
    assert str(caught.value).startswith(reason)
    assert hosts(configured) == ["orders"]
    assert [row.id for row in store.resources()] == [ORDERS]


def test_files_cannot_be_changed_by_apply_or_delete(tmp_path: Path) -> None:
    """What a file holds is changed in the file; the refusal names it."""
    (tmp_path / "a.yaml").write_text(SERVICE.format("orders", 80))
    configured = begun(tmp_path)
    with pytest.raises(ConfigurationRefused, match=r"f.yaml:1: ServiceEntry/orders is kept in .*a.yaml:1"):
        configured.apply(SERVICE.format("orders", 81), "f.yaml")
    with pytest.raises(ConfigurationRefused, match=r"a.yaml:1: ServiceEntry/orders is kept in a file"):
        configured.delete(ORDERS)


def test_delete_removes_and_refuses_to_leave_references_dangling() -> None:
    """A rule that routes need cannot be deleted before them."""
    configured = begun(None)
    configured.apply("---\n".join([SERVICE.format("orders", 80), RULE, ROUTES]), "f.yaml")
    rule = ResourceId(ResourceKind.DESTINATION_RULE, "default", "orders")
    with pytest.raises(ConfigurationRefused, match="unknown subset v1"):
        configured.delete(rule)
    configured.delete(ResourceId(ResourceKind.VIRTUAL_SERVICE, "default", "orders"))
    configured.delete(rule)
    assert [entry.id for entry in configured.accepted.entries] == [ORDERS]
    with pytest.raises(NoSuchResource, match="there is no DestinationRule/orders"):
        configured.delete(rule)


def test_apply_mends_files_that_were_refused(tmp_path: Path) -> None:
    """Files that wait for a subset come into force as soon as it is applied."""
    (tmp_path / "a.yaml").write_text(SERVICE.format("orders", 80))
    configured = begun(tmp_path)
    (tmp_path / "b.yaml").write_text(ROUTES)
    look(configured)
    assert "unknown subset" in str(configured.problems[0])
    configured.apply(SERVICE.format("users", 80), "f.yaml")
    assert configured.problems
    configured.apply(RULE, "f.yaml")
    assert configured.problems == ()
    assert list(configured.accepted.configuration.virtual_services) == ["orders"]


def test_applied_resources_survive_and_keep_their_lines() -> None:
    """A configuration made from the same store has what was applied, with the lines of the user's file."""
    store = MemoryStore()
    begun(None, store).apply("# two\n\n" + RULE + "---\n" + SERVICE.format("orders", 80), "f.yaml")
    again = begun(None, store)
    assert sorted(f"{entry.id} {entry.file}:{entry.first_line}" for entry in again.accepted.entries) == [
        "DestinationRule/orders f.yaml:3",
        "ServiceEntry/orders f.yaml:8",
    ]


def test_applied_resources_that_do_not_fit_any_more_are_set_aside(tmp_path: Path) -> None:
    """If files changed while the control plane was down, it starts on the files, says why, and can be mended."""
    store = MemoryStore()
    (tmp_path / "a.yaml").write_text(SERVICE.format("orders", 80) + "---\n" + RULE)
    begun(tmp_path, store).apply(ROUTES, "f.yaml")
    (tmp_path / "a.yaml").write_text(SERVICE.format("orders", 80))
    configured = begun(tmp_path, store)
    assert "unknown subset v1" in str(configured.problems[0])
    assert [entry.id for entry in configured.accepted.entries] == [ORDERS]
    configured.delete(ResourceId(ResourceKind.VIRTUAL_SERVICE, "default", "orders"))
    assert configured.problems == ()
