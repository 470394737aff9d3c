"""RateLimit: what is read, and what is refused word for word."""

from __future__ import annotations

import pytest

from controlplane.config.documents import parse
from controlplane.config.merge import merge
from controlplane.config.problems import ConfigurationRefused
from controlplane.model.rate_limits import Limit, LimitDescriptor, RateLimit, Unit

HEAD = """\
apiVersion: meshsdk.io/v1alpha1
kind: RateLimit
metadata: {name: shop}
spec:
"""  # the spec starts on line 5
SPEC = """\
  domain: shop
  responseHeaders: true
  descriptors:
  - key: user
    rateLimit: {unit: minute, requestsPerUnit: 100}
    descriptors:
    - {key: method, value: write, rateLimit: {unit: hour, requestsPerUnit: 0, shadowMode: true}}
  - {key: user, value: admin, rateLimit: {unlimited: true}}
"""


def test_everything_is_read():
    """Domains, descriptors with and without a value, nested ones and all kinds of limits become their values."""
    (entry,) = parse(HEAD + SPEC, "f.yaml").entries
    assert entry.resource == RateLimit(
        id=entry.id,
        domain="shop",
        descriptors=(
            LimitDescriptor(
                "user",
                limit=Limit(100, Unit.MINUTE, "user"),
                below=(LimitDescriptor("method", "write", Limit(0, Unit.HOUR, "user/method=write", shadow=True)),),
            ),
            LimitDescriptor("user", "admin", Limit(2**32 - 1, Unit.SECOND, "user=admin", unlimited=True)),
        ),
        headers=True,
    )


DEEP = "".join(f"{'  ' * n}  - key: k\n{'  ' * n}    descriptors:\n" for n in range(1, 18))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("  descriptors: []\n", "5: spec.domain: required field is missing"),
        ("  domain: shop\n", "5: spec.descriptors: required field is missing"),
        ("  domain: shop\n  descriptors: []\n", "6: spec.descriptors: expected 1 to 10000 items, got 0"),
        (
            "  domain: shop\n  descriptors:\n  - {key: user}\n",
            "7: spec.descriptors[0]: expected rateLimit, or descriptors",
        ),
        (
            "  domain: shop\n  descriptors:\n  - {kye: user}\n",
            "spec.descriptors[0].kye: unknown field, did you mean key?",
        ),
        (
            "  domain: shop\n  descriptors:\n  - {key: a, value: 'b*', rateLimit: {}}\n",
            ".value: a value stands for itself",
        ),
        (
            "  domain: shop\n  descriptors:\n  - key: a\n    rateLimit: {unit: week, requestsPerUnit: 1}\n",
            "8: spec.descriptors[0].rateLimit.unit: expected one of second, minute, hour, day, got 'week'",
        ),
        (
            "  domain: shop\n  descriptors:\n  - key: a\n    rateLimit: {unit: day, requestsPerUnit: -1}\n",
            ".requestsPerUnit: expected 0 to 4294967295, got -1",
        ),
        (
            "  domain: shop\n  descriptors:\n  - {key: a, rateLimit: {unlimited: true, unit: day}}\n",
            ".rateLimit.unit: means nothing beside unlimited: true",
        ),
        (
            "  domain: shop\n  descriptors:\n" + 2 * "  - {key: a, rateLimit: {unlimited: true}}\n",
            "8: spec.descriptors[1]: key 'a' for any value is there twice",
        ),
        (f"  domain: shop\n  descriptors:\n{DEEP}", "descriptors are nested more than 16 deep"),
    ],
)
def test_refusals(spec, said):
    """What is wrong is said with its line, its path and what to do."""
    documents = parse(HEAD + spec, "f.yaml")
    assert not documents.entries
    assert said in str(documents.problems[0])
    assert str(documents.problems[0]).startswith("f.yaml:")


def test_one_domain_has_one_resource():
    """Two RateLimits of one domain contradict each other."""
    other = (HEAD + SPEC).replace("name: shop", "name: other")
    with pytest.raises(
        ConfigurationRefused, match=r"RateLimit/shop .* are both for the domain shop; merge them into one"
    ):
        merge(parse(f"{HEAD}{SPEC}---\n{other}", "f.yaml"))
