"""Application-level discovery: instances, revisions, and the port behind which every service registry sits.

`registry` is the port, `memory` and `controlplane` are adapters, `registration_codec` the only place that knows the
wire form of instances. Called by `meshsdk.lifecycle` and by the control plane's own registration service.
"""
