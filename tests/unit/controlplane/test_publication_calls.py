"""What a change of faults and CallPolicies costs: which resources are sent anew."""

from __future__ import annotations

from tests.unit.controlplane.test_publication import TEXT, Published

POLICY = """\
---
apiVersion: meshsdk.io/v1alpha1
kind: CallPolicy
metadata: {{name: orders}}
spec:
  targetRef: {{name: orders}}
  localRateLimit: {{tokenBucket: {{maxTokens: {tokens}, fillInterval: 1s}}}}
"""
BUDGET = """\
---
apiVersion: meshsdk.io/v1alpha1
kind: CallPolicy
metadata: {name: budget}
spec: {targetRef: {name: orders}, retryBudget: {percent: 10}}
"""


def changed(published: Published, text: str) -> dict[str, set[str]]:
    """Puts a configuration in force, and returns the names of each type that it changed for all clients."""
    published.commits.clear()
    published.configure(text)
    return {name: found for each in published.commits for name, found in each.items() if found}


def test_only_what_a_policy_says_is_sent_anew() -> None:
    """A limit brings its filter once; another number is a change of routes alone, a budget one of clusters alone."""
    published = Published()
    published.configure(TEXT)
    assert changed(published, TEXT + POLICY.format(tokens=9)) == {
        "Listener": {"orders"},
        "RouteConfiguration": {"orders"},
    }
    assert changed(published, TEXT + POLICY.format(tokens=8)) == {"RouteConfiguration": {"orders"}}
    both = TEXT + POLICY.format(tokens=8) + BUDGET
    assert changed(published, both) == {"Cluster": {"orders", "orders|v1"}}
    assert changed(published, TEXT) == {
        "Listener": {"orders"},
        "RouteConfiguration": {"orders"},
        "Cluster": {"orders", "orders|v1"},
    }


def test_the_service_that_copies_go_to_is_served() -> None:
    """A host that only copies, or a rate limit service, are sent to is served like any other."""
    published = Published()
    text = TEXT.replace("  - name: rest\n", "  - name: rest\n    mirror: {host: shadow}\n") + BUDGET.replace(
        "retryBudget: {percent: 10}", "rateLimit: {domain: a, service: limits}"
    )
    found = changed(published, text)
    assert found["Cluster"] >= {"orders", "shadow", "limits"}
