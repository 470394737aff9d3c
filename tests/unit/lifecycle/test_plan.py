"""make_plan: arguments of serve and announce that cannot be meant are refused before anything is started."""

from __future__ import annotations

import pytest

from meshsdk.errors import ConfigurationError
from meshsdk.lifecycle.drain import DrainTiming
from meshsdk.lifecycle.plan import make_plan


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"health_prt": 1}, r"serve\(health_prt=\.\.\.\): there is no such option; there are drain, .*health_port"),
        ({"drain": 5}, r"serve\(drain=5\) must be a DrainTiming"),
        ({"drain": False}, r"serve\(drain=False\) must be a DrainTiming"),
        ({"ready": "no"}, r"serve\(ready='no'\) must be True or False"),
        ({"ready": None}, r"serve\(ready=None\) must be True or False"),
        ({"handle_signals": 0}, r"serve\(handle_signals=0\) must be True or False"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, words):
    """A misspelt option and a value of another kind are named in the error."""
    with pytest.raises(ConfigurationError, match=words):
        make_plan(options)


def test_what_is_not_given_has_its_default():
    """Nothing, and `drain=None`, are the timing of `DrainTiming` and an application that is ready."""
    for options in ({}, {"drain": None}):
        plan = make_plan(options)
        assert (plan.drain, plan.handle_signals, plan.readiness.said) == (DrainTiming(), True, True)
