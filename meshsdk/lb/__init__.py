"""Load balancing, pure: which endpoints of a cluster to connect to, and which of them takes the next call.

`selection.select` narrows a resolved cluster to the endpoints this client uses, `connect_plan.connect_plan` says which
of them to connect now, `picker.build` turns them and their connectivity into a picker. Nothing here connects, waits,
reads a clock or draws a number by itself.
"""
