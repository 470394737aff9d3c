"""The xDS server: pure stream machines (`machine`, `subscription`) and the gRPC service that carries them."""
