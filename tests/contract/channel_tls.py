"""A key and a certificate for `localhost` and `orders` that nothing but these tests trusts; valid from 2020 to 2120."""

from __future__ import annotations

import grpc

_KEY = b"""\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg3wLPfNYgr+2QmKDd
pwjFQmr/gvllmF0JmEQ0GdJ0+KuhRANCAAQQXpQkU9eNqDxWSh9Gl3iG1eGIoj0i
XYMIsSOhrZJ6HTG949So4X3+66w7Aq3S/qguT7hHJ7cvFpafyLTxo5O1
-----END PRIVATE KEY-----
"""

_CERTIFICATE = b"""\
-----BEGIN CERTIFICATE-----
MIIBczCCARmgAwIBAgIBAjAKBggqhkjOPQQDAjAZMRcwFQYDVQQDDA5jb250cmFj
dCB0ZXN0czAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAwMDAwMFowGTEXMBUG
A1UEAwwOY29udHJhY3QgdGVzdHMwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQQ
XpQkU9eNqDxWSh9Gl3iG1eGIoj0iXYMIsSOhrZJ6HTG949So4X3+66w7Aq3S/qgu
T7hHJ7cvFpafyLTxo5O1o1AwTjAcBgNVHREEFTATgglsb2NhbGhvc3SCBm9yZGVy
czAPBgNVHRMBAf8EBTADAQH/MB0GA1UdDgQWBBQck6p4xB0m7KjoDw2YlzWY1JOB
QDAKBggqhkjOPQQDAgNIADBFAiBtUwBKuvm1D7JMm5A4XecTNCcQpIoxJnh8X3zX
jIc2zwIhAK1rku8+zWoFEp93HBTwVyIIctxFGJMi1NLeF84emwQ7
-----END CERTIFICATE-----
"""


def server() -> grpc.ServerCredentials:
    """What the backend serves with."""
    return grpc.ssl_server_credentials(((_KEY, _CERTIFICATE),))


def client() -> grpc.ChannelCredentials:
    """What trusts the backend."""
    return grpc.ssl_channel_credentials(root_certificates=_CERTIFICATE)
