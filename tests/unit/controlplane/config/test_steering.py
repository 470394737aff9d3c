"""TrafficSwitch and ShimSet: what is read, what is refused word for word, and which of two that collide is in force."""

from __future__ import annotations

import pytest

from controlplane.config.documents import parse
from controlplane.config.merge import combine, merge
from controlplane.config.problems import ConfigurationRefused
from controlplane.model.shims import Share, ShimSet
from controlplane.model.switching import TrafficSwitch

SWITCH = """\
apiVersion: meshsdk.io/v1alpha1
kind: TrafficSwitch
metadata: {{name: {0}}}
spec: {{{1}}}
"""  # the spec stands on line 4
SHIMS = """\
apiVersion: meshsdk.io/v1alpha1
kind: ShimSet
metadata: {name: edge}
spec:
"""  # the spec starts on line 5
PLAIN = "  selector: {matchLabels: {app: orders}}\n  version: 1.40.1\n"


def test_everything_of_a_switch_is_read() -> None:
    """Nodes by application, id, label and share; on and off as words, and as YAML 1.1's booleans."""
    spec = 'app: "*", instances: [a, b], labels: {zone: x}, percentage: 12.5, client: "off", server: on'
    (entry,) = parse(SWITCH.format("all", spec), "f.yaml").entries
    wanted = TrafficSwitch(entry.id, "*", frozenset("ab"), {"zone": "x"}, percentage=12.5, client=False, server=True)
    assert entry.resource == wanted
    (entry,) = parse(SWITCH.format("all", 'app: orders, client: off, server: "ON"'), "f.yaml").entries
    assert entry.resource == TrafficSwitch(entry.id, "orders", client=False, server=True)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("client: off", "spec.app: required field is missing"),
        ("app: orders", "spec: expected client, server or both: it switches nothing"),
        ("app: a/b, client: off", "spec.app: 'a/b' is not the name of an application, or \"*\""),
        ("app: a, client: maybe", "spec.client: expected on or off, got 'maybe'"),
        ("app: a, client: 1", "spec.client: expected a string, got the number 1; quote it"),
        ("app: a, client: off, percentage: 101", "spec.percentage: expected 0 to 100, got 101"),
        ("app: a, client: off, percentage: 10%", "spec.percentage: expected a number, got the string 10%"),
        ("app: a, client: off, instances: []", "spec.instances: expected 1 to 10000 items, got 0"),
        ("app: a, client: off, instances: [x, x]", "spec.instances[1]: x is listed twice"),
        ("app: a, client: off, labels: {}", "spec.labels: must not be empty; leave it out for nodes with any labels"),
        ("app: a, clients: off", "spec.clients: unknown field, did you mean client?"),
    ],
)
def test_a_switch_is_refused(spec: str, expected: str) -> None:
    """What is wrong is said with its line and path."""
    problems = parse(SWITCH.format("s", spec), "f.yaml").problems
    assert [str(problem) for problem in problems] == [f"f.yaml:4: {expected}"]


def test_everything_of_a_shim_set_is_read() -> None:
    """Version or image, shares as numbers and percentages, pause and failure policy; and what holds without them."""
    text = """\
  selector: {matchLabels: {app: orders, zone: a}}
  image: registry.local:5000/mesh/shim:1.40.1.post2
  updateStrategy: {partition: 20%, maxUnavailable: 12.5%, paused: true}
  failurePolicy: {maxFailurePercentage: 0, rollback: false, timeout: 1m30s}
"""
    (entry,) = parse(SHIMS + text, "f.yaml").entries
    assert entry.resource == ShimSet(
        entry.id,
        {"app": "orders", "zone": "a"},
        "1.40.1.post2",
        partition=Share(percent=20.0),
        max_unavailable=Share(percent=12.5),
        paused=True,
        max_failures=0.0,
        rollback=False,
        timeout=90.0,
    )
    (entry,) = parse(SHIMS + PLAIN + "  updateStrategy: {partition: 3}\n  failurePolicy: {}\n", "f.yaml").entries
    plain = ShimSet(entry.id, {"app": "orders"}, "1.40.1", partition=Share(number=3), max_unavailable=Share(number=1))
    assert entry.resource == plain
    assert (plain.max_failures, plain.rollback, plain.timeout) == (10.0, True, 300.0)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("  version: 1.40.1\n", "5: spec.selector: required field is missing"),
        (
            "  selector: {matchLabels: {}}\n  version: 1.40.1\n",
            "5: spec.selector.matchLabels: must not be empty: name the shims by at least one label, such as app",
        ),
        (
            "  selector: {matchLabels: {app: a}}\n",
            "5: spec: expected version, or image with the version as its tag",
        ),
        (PLAIN + "  image: a:1\n", "7: spec.image: only one of version, image may be given"),
        (PLAIN.replace("1.40.1", "1.40"), "6: spec.version: expected a string, got the number 1.40; quote it"),
        (PLAIN.replace("1.40.1", "latest"), "6: spec.version: 'latest' is not a version such as 1.40.1"),
        (PLAIN.replace("1.40.1", "v1.40.1"), "6: spec.version: 'v1.40.1' is not a version such as 1.40.1"),
        (
            PLAIN.replace("version: 1.40.1", "image: localhost:5000/shim:latest"),
            (
                "6: spec.image: 'localhost:5000/shim:latest' is not an image whose tag is a version, such as "
                "registry/shim:1.40.1"
            ),
        ),
        (PLAIN.replace("1.40.1", "../1"), "6: spec.version: '../1' is not a version such as 1.40.1"),
        (
            PLAIN.replace("version: 1.40.1", "image: localhost:5000/shim"),
            (
                "6: spec.image: 'localhost:5000/shim' is not an image whose tag is a version, such as "
                "registry/shim:1.40.1"
            ),
        ),
        (
            PLAIN + "  updateStrategy: {partition: 120%}\n",
            "7: spec.updateStrategy.partition: expected a number of shims, or 0% to 100% of them",
        ),
        (
            PLAIN + "  updateStrategy: {maxUnavailable: 0}\n",
            (
                "7: spec.updateStrategy.maxUnavailable: must be more than 0: no shim could ever be upgraded; to hold "
                "the rollout, say paused: true"
            ),
        ),
        (
            PLAIN + "  failurePolicy: {timeout: 10ms}\n",
            "7: spec.failurePolicy.timeout: expected at least 1s and at most 3.1536e+08s, got 10ms",
        ),
        (
            PLAIN + "  failurePolicy: {timeouts: 1s}\n",
            "7: spec.failurePolicy.timeouts: unknown field, did you mean timeout?",
        ),
    ],
)
def test_a_shim_set_is_refused(spec: str, expected: str) -> None:
    """What is wrong is said with its line and path."""
    assert [str(problem) for problem in parse(SHIMS + spec, "f.yaml").problems] == [f"f.yaml:{expected}"]


# -- two at once ------------------------------------------------------------------------------------------------------


def refused(*specs: str) -> list[str]:
    """Returns the names of the switches with these specs that are refused together."""
    text = "---\n".join(SWITCH.format(f"s{number}", spec) for number, spec in enumerate(specs))
    try:
        merge(parse(text, "f.yaml"))
    except ConfigurationRefused as error:
        return [problem.what.split(" and ")[0].removeprefix("conflict: ") for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("app: a, client: on", "app: a, client: off"),
        ("app: a, client: off", "app: a, client: off, percentage: 10"),
        ('app: "*", server: on', 'app: "*", server: off'),
        ("app: a, instances: [x, y], client: on", "app: a, instances: [y], client: on, server: on"),
        ("app: a, labels: {zone: x}, client: on", "app: a, labels: {tier: y}, client: off"),
    ],
)
def test_two_that_are_as_specific_are_refused(one: str, other: str) -> None:
    """Where a node could be selected by both, and neither is more specific, the second is refused, naming both."""
    assert refused(one, other) == ["TrafficSwitch/s1"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("app: a, client: on", "app: a, server: off"),
        ("app: a, client: on", "app: b, client: off"),
        ("app: a, client: on", 'app: "*", client: off'),
        ("app: a, client: on", "app: a, labels: {zone: x}, client: off"),
        ("app: a, labels: {zone: x}, client: on", "app: a, labels: {zone: y}, client: off"),
        ("app: a, labels: {zone: x}, client: on", "app: a, labels: {zone: x, tier: y}, client: off"),
        ("app: a, instances: [x], client: on", "app: a, instances: [y], client: off"),
        ("app: a, instances: [x], client: on", "app: a, labels: {zone: x}, client: off"),
    ],
)
def test_two_of_which_one_is_more_specific_are_not(one: str, other: str) -> None:
    """Different sides, different nodes, or one of them named more closely: both are in force."""
    assert refused(one, other) == refused(other, one) == []


def test_a_file_goes_before_what_was_applied() -> None:
    """Of two in different sources the lower one is left out, and says with which one it collides."""
    files = parse(SWITCH.format("file", "app: a, labels: {x: y}, client: on"), "file.yaml")
    applied = parse(SWITCH.format("applied", "app: a, labels: {z: y}, client: on"), "applied.yaml")
    accepted = combine([files, applied])
    assert [entry.id.name for entry in accepted.entries] == ["file"]
    assert [str(problem) for problem in accepted.unfit_applied] == [
        (
            "applied.yaml:4: spec: conflict: TrafficSwitch/applied and TrafficSwitch/file (in file.yaml:4) may both be "
            "for one node, and neither is more specific; merge them, or name instances or more labels in one"
        )
    ]


def test_two_shim_sets_with_one_selector_are_refused() -> None:
    """The same labels name the same shims; other labels are settled by which set names more."""
    text = SHIMS + PLAIN + "---\n" + SHIMS.replace("edge", "rim") + PLAIN
    with pytest.raises(ConfigurationRefused) as caught:
        merge(parse(text, "f.yaml"))
    (problem,) = caught.value.problems
    assert str(problem) == (
        "f.yaml:12: spec: conflict: ShimSet/rim and ShimSet/edge (in f.yaml:5) are for the same shims; "
        "merge them into one"
    )
    assert len(merge(parse(text.replace("app: orders", "zone: a", 1), "f.yaml")).configuration.shim_sets) == 2
