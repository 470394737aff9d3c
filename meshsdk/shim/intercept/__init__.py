"""Turning an application's traffic into the shim and out of it: `meshsdk shim intercept`, and TrafficSwitch."""
