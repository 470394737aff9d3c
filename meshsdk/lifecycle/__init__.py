"""From online to offline: `serve`, registration, health and the drain that loses no call.

`serve_sync` and `serve_aio` are the entries; `drain` and `registration` hold the decisions and know no clock.
"""
