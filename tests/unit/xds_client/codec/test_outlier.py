"""CDS: outlier detection (gRFC A50 and the rest of Envoy's) and circuit breakers (A32)."""

from __future__ import annotations

import pytest

from meshsdk.model.policy import CircuitBreakers, OutlierDetection, RetryBudget
from tests.unit.xds_client.codec.messages import Json, cluster
from tests.unit.xds_client.codec.test_cluster import decoded, refusal


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, OutlierDetection(success_rate_stdev_factor=1900)),
        (
            {
                "consecutive_5xx": 3,
                "interval": "1s",
                "base_ejection_time": "2s",
                "max_ejection_time": "9s",
                "max_ejection_percent": 50,
                "enforcing_success_rate": 0,
            },
            OutlierDetection(3, None, 1.0, 2.0, 9.0, 50, enforcing_success_rate=0),
        ),
        (
            {"enforcing_consecutive_5xx": 0, "enforcing_success_rate": 0, "base_ejection_time": "400s"},
            OutlierDetection(
                None,
                base_ejection_time=400.0,
                max_ejection_time=400.0,
                enforcing_consecutive_5xx=0,
                enforcing_success_rate=0,
            ),
        ),
        (
            {
                "enforcing_consecutive_gateway_failure": 100,
                "enforcing_failure_percentage": 10,
                "success_rate_stdev_factor": 1000,
            },
            OutlierDetection(
                consecutive_gateway_failure=5,
                success_rate_stdev_factor=1000,
                failure_percentage_threshold=85,
                enforcing_consecutive_gateway_failure=100,
                enforcing_failure_percentage=10,
            ),
        ),
        (
            {
                "split_external_local_origin_errors": True,
                "enforcing_success_rate": 0,
                "enforcing_failure_percentage_local_origin": 7,
            },
            OutlierDetection(
                success_rate_stdev_factor=1900,
                failure_percentage_threshold=85,
                enforcing_success_rate=0,
                split_local_origin=True,
                consecutive_local_origin=5,
                enforcing_failure_percentage_local_origin=7,
            ),
        ),
    ],
)
def test_outlier_detection(fields: Json, expected: OutlierDetection) -> None:
    """A50: Envoy's defaults; an algorithm that is enforced at 0 percent is off. All of it counts: nothing is listed."""
    found = decoded(cluster(outlier_detection=fields))
    assert found.outlier == expected
    assert found.ignored == ()


def test_every_field_of_outlier_detection() -> None:
    """Each field is carried as it is said; what needs active health checks is listed."""
    fields = {
        "consecutive_5xx": 1,
        "interval": "2s",
        "base_ejection_time": "3s",
        "max_ejection_percent": 4,
        "enforcing_consecutive_5xx": 5,
        "enforcing_success_rate": 6,
        "success_rate_minimum_hosts": 7,
        "success_rate_request_volume": 8,
        "success_rate_stdev_factor": 9,
        "consecutive_gateway_failure": 10,
        "enforcing_consecutive_gateway_failure": 11,
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 12,
        "enforcing_consecutive_local_origin_failure": 13,
        "enforcing_local_origin_success_rate": 14,
        "failure_percentage_threshold": 15,
        "enforcing_failure_percentage": 16,
        "enforcing_failure_percentage_local_origin": 17,
        "failure_percentage_minimum_hosts": 18,
        "failure_percentage_request_volume": 19,
        "max_ejection_time": "20s",
        "max_ejection_time_jitter": "21s",
        "successful_active_health_check_uneject_host": False,
        "always_eject_one_host": True,
    }
    found = decoded(cluster(outlier_detection=fields))
    assert found.outlier == OutlierDetection(
        consecutive_5xx=1,
        interval=2.0,
        base_ejection_time=3.0,
        max_ejection_percent=4,
        enforcing_consecutive_5xx=5,
        enforcing_success_rate=6,
        success_rate_minimum_hosts=7,
        success_rate_request_volume=8,
        success_rate_stdev_factor=9,
        consecutive_gateway_failure=10,
        enforcing_consecutive_gateway_failure=11,
        split_local_origin=True,
        consecutive_local_origin=12,
        enforcing_consecutive_local_origin=13,
        enforcing_local_origin_success_rate=14,
        failure_percentage_threshold=15,
        enforcing_failure_percentage=16,
        enforcing_failure_percentage_local_origin=17,
        failure_percentage_minimum_hosts=18,
        failure_percentage_request_volume=19,
        max_ejection_time=20.0,
        max_ejection_jitter=21.0,
        always_eject_one=True,
    )
    assert found.ignored == ("outlier_detection.successful_active_health_check_uneject_host",)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_ejection_percent": 101}, "max_ejection_percent: 101 is not a percentage of 0 to 100"),
        ({"enforcing_success_rate": 101}, "enforcing_success_rate: 101 is not a percentage of 0 to 100"),
        ({"failure_percentage_threshold": 101}, "failure_percentage_threshold: 101 is not a percentage of 0 to 100"),
        ({"enforcing_failure_percentage": 101}, "enforcing_failure_percentage: 101 is not a percentage of 0 to 100"),
        (
            {"enforcing_local_origin_success_rate": 101},
            "enforcing_local_origin_success_rate: 101 is not a percentage of 0 to 100",
        ),
        ({"interval": "-1s"}, "interval: -1 s 0 ns is not a duration of zero or more"),
        ({"interval": "0s"}, "interval: must be more than zero"),
        ({"base_ejection_time": "-1s"}, "base_ejection_time: -1 s 0 ns is not a duration of zero or more"),
        ({"max_ejection_time": "-0.5s"}, "max_ejection_time: 0 s -500000000 ns is not a duration of zero or more"),
    ],
)
def test_outlier_detection_refused(fields: Json, words: str) -> None:
    """A50: percentages above 100 and negative durations are refused."""
    assert refusal(cluster(outlier_detection=fields)) == f"outlier_detection.{words}"


def test_circuit_breakers() -> None:
    """A32: the first thresholds of a priority count, for DEFAULT and for HIGH; pools are none of gRPC's: listed."""
    thresholds = [
        {"priority": "HIGH", "max_requests": 1, "max_connection_pools": 2, "track_remaining": True},
        {"max_requests": 7, "max_retries": 2, "max_pending_requests": 3, "max_connections": 4},
        {"max_requests": 9},
    ]
    found = decoded(cluster(circuit_breakers={"thresholds": thresholds}))
    assert found.breakers == CircuitBreakers(4, 3, 7, 2)
    assert found.high_breakers == CircuitBreakers(max_requests=1)
    assert found.ignored == ("circuit_breakers.thresholds.max_connection_pools",)
    assert decoded(cluster()).breakers is None


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ({}, RetryBudget(0.2, 3)),
        ({"budget_percent": {"value": 50}, "min_retry_concurrency": 0}, RetryBudget(0.5, 0)),
    ],
)
def test_retry_budget(budget: Json, expected: RetryBudget) -> None:
    """A budget says how many retries may run beside how many calls; Envoy's defaults are 20 percent and 3."""
    found = decoded(cluster(circuit_breakers={"thresholds": [{"retry_budget": budget}]}))
    assert found.breakers == CircuitBreakers(retry_budget=expected)
    assert found.ignored == ()


def test_a_budget_of_more_than_all_calls_is_refused() -> None:
    """A share of calls is a percentage."""
    thresholds = [{"retry_budget": {"budget_percent": {"value": 101}}}]
    text = refusal(cluster(circuit_breakers={"thresholds": thresholds}))
    where = "circuit_breakers.thresholds[0].retry_budget.budget_percent"
    assert text == f"{where}: 101.0 is not a percentage of 0 to 100"
