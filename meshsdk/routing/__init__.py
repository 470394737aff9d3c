"""From a call and a virtual host to a route and a cluster: pure functions and compiled plans, no I/O, no protobuf.

`domains.best_match` picks the virtual host, `router.RouteTable` its routes. Used by `xds_client.resolve`, the codecs
(`regex.compile_regex` to validate) and the channel façades.
"""
