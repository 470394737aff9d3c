"""Settings for all tests: property tests have no deadline (the machine is shared) and print the input that failed."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "meshsdk",
    deadline=None,
    max_examples=60,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("meshsdk")
