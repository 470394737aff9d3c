"""Client and server interceptors, the `rpc` decorator, and the policies of calls with their drivers."""
