"""The Envoy of a shim: its program, its sockets, its process, and what keeps it up."""
