"""The local xDS server towards the shim's own Envoy: what Envoy is to have, and how it is told. Protobuf stays here."""
