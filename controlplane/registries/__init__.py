"""The registration service: instances under leases, revisions, and those who watch. Feeds the plane."""
