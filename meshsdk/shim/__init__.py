"""The shim: puts an application in another language into the mesh, with a stock Envoy as its data plane.

`command` is the entry (`meshsdk shim`), `running` puts the parts together, `xds` says to Envoy what to do.
"""
