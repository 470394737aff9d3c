"""How shims get to the version that a ShimSet wants: pure state machines, driven by the plane."""
