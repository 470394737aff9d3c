"""What is said of calls that take the direct path because the mesh cannot."""

from __future__ import annotations

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from meshsdk.instrument import fallback
from meshsdk.instrument.fallback import Fallbacks, Reason


def test_every_fallback_is_counted_with_target_and_reason(monkeypatch):
    """The counter that an operator watches."""
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    fallback._counter.cache_clear()
    fallbacks = Fallbacks("orders:50051")
    for reason in (Reason.NO_CONFIGURATION, Reason.NO_CONFIGURATION, Reason.ENGINE):
        fallbacks.count(reason)
    [found] = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    fallback._counter.cache_clear()
    provider.shutdown()
    assert found.name == "meshsdk.client.fallbacks"
    counted = {
        (point.attributes["target"], point.attributes["reason"]): point.value for point in found.data.data_points
    }
    assert counted == {("orders:50051", "no_configuration"): 2, ("orders:50051", "engine"): 1}


def test_without_an_sdk_the_counter_is_one_that_does_nothing(monkeypatch):
    """OpenTelemetry's API alone."""
    monkeypatch.setattr(metrics, "get_meter", metrics.NoOpMeterProvider().get_meter)
    fallback._counter.cache_clear()
    Fallbacks("orders:50051").count(Reason.ENGINE)
    counter = fallback._counter()
    fallback._counter.cache_clear()
    assert isinstance(counter, metrics.NoOpCounter)


def test_an_outage_is_said_once(caplog):
    """One line when it begins; the next outage has one of its own."""
    fallbacks = Fallbacks("orders:50051")
    for problem in ("down", "down", "still down"):
        fallbacks.began(problem)
    fallbacks.ended()
    fallbacks.ended()
    fallbacks.began("down again")
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "orders:50051: calls take the direct path: down",
        "orders:50051: calls take the direct path: down again",
    ]


def test_a_raising_engine_is_said_once_for_each_kind_of_error(caplog):
    """With the traceback, for it is a defect of ours."""
    fallbacks = Fallbacks("orders:50051")
    for error in (TypeError("a"), TypeError("b"), KeyError("c")):
        fallbacks.raised(error)
    assert [record.exc_info[0] for record in caplog.records] == [TypeError, KeyError]
