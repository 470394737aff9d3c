"""Which targets of an unchanged program may be services."""

from __future__ import annotations

import pytest

from meshsdk.instrument.targets import service_host


@pytest.mark.parametrize(
    "target",
    [
        "orders",
        "orders:50051",
        "dns:orders",
        "dns:orders:50051",
        "dns:///orders",
        "dns:///orders:50051",
        "Orders.:http",
    ],
)
def test_every_way_to_write_a_host_names_it(target):
    """With and without port, scheme, capitals and the dot of an absolute name."""
    assert service_host(target) == "orders"


def test_a_name_of_many_labels_is_taken_whole():
    """Kubernetes' long names are the names of services too."""
    assert service_host("dns:///orders.shop.svc.cluster.local:80") == "orders.shop.svc.cluster.local"


@pytest.mark.parametrize(
    "target",
    [
        *("", ":50051", "127.0.0.1:50051", "127.0.0.1", "[::1]:50051", "::1", "ipv4:10.0.0.1:80", "ipv6:[::1]:80"),
        *("unix:/tmp/x", "unix:///tmp/x", "unix-abstract:x", "vsock:2:1", "xds:///orders", "mesh:///orders"),
        *("localhost", "localhost:50051", "dns:///localhost:1", "x.localhost:1", "dns://8.8.8.8/orders:50051"),
        *("orders:50051,payments:50051", "http://orders:80", "orders/path", "-orders:1", "x" * 254, b"orders:1", None),
    ],
)
def test_what_is_no_host_name_is_left_alone(target):
    """Addresses, sockets, other schemes, this very host, lists, and targets with a DNS server of their own."""
    assert service_host(target) is None
