"""Outlier detection of a cluster, of a DestinationRule and a CallPolicy together. Pure; used by `clusters`.

As in Istio, the ways of ejection that the resources do not speak of are off.
"""

from __future__ import annotations

from envoy.config.cluster.v3 import cluster_pb2, outlier_detection_pb2
from google.protobuf.wrappers_pb2 import UInt32Value

from controlplane.model.call_policy import Ejection, StatisticalOutliers
from controlplane.model.policy import OutlierPolicy
from controlplane.translate.durations import duration


def apply_outliers(
    message: cluster_pb2.Cluster, policy: OutlierPolicy | None, compared: StatisticalOutliers | None
) -> None:
    """Writes outlier detection; nothing where none is given."""
    if policy is None and compared is None:
        return
    outlier = outlier_detection_pb2.OutlierDetection(enforcing_success_rate=UInt32Value(value=0))
    if policy:
        _count(outlier, policy)
        if policy.min_health_percent is not None:
            message.common_lb_config.healthy_panic_threshold.value = policy.min_health_percent
    else:
        outlier.enforcing_consecutive_5xx.value = 0
    if compared:
        _compare(outlier, compared)
    message.outlier_detection.CopyFrom(outlier)


def _count(outlier: outlier_detection_pb2.OutlierDetection, policy: OutlierPolicy) -> None:
    for name, value in (
        ("consecutive_5xx", policy.consecutive_5xx),
        ("consecutive_gateway_failure", policy.consecutive_gateway),
        ("consecutive_local_origin_failure", policy.consecutive_local_origin),
    ):
        if value is not None:  # 0 turns this way of ejection off
            getattr(outlier, f"enforcing_{name}").value = 100 if value else 0
            if value:
                getattr(outlier, name).value = value
    if policy.split_local_origin is not None:
        outlier.split_external_local_origin_errors = policy.split_local_origin
        if policy.split_local_origin:
            outlier.enforcing_local_origin_success_rate.value = 0  # Envoy's default is 100
    if policy.interval is not None:
        outlier.interval.CopyFrom(duration(policy.interval))
    if policy.base_ejection_time is not None:
        outlier.base_ejection_time.CopyFrom(duration(policy.base_ejection_time))
    if policy.max_ejection_percent is not None:
        outlier.max_ejection_percent.value = policy.max_ejection_percent


def _compare(outlier: outlier_detection_pb2.OutlierDetection, compared: StatisticalOutliers) -> None:
    if compared.success_rate:
        outlier.success_rate_stdev_factor.value = round(compared.success_rate.threshold * 1_000)
        _hosts(outlier, "success_rate", compared.success_rate)
    if compared.failure_percentage:
        outlier.failure_percentage_threshold.value = round(compared.failure_percentage.threshold)
        _hosts(outlier, "failure_percentage", compared.failure_percentage)
    if compared.max_ejection_time is not None:
        outlier.max_ejection_time.CopyFrom(duration(compared.max_ejection_time))


def _hosts(outlier: outlier_detection_pb2.OutlierDetection, way: str, value: Ejection) -> None:
    getattr(outlier, f"enforcing_{way}").value = value.enforcing
    getattr(outlier, f"{way}_minimum_hosts").value = value.min_hosts
    getattr(outlier, f"{way}_request_volume").value = value.request_volume
