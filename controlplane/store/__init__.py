"""Where the control plane keeps what must outlive it: applied resources, instances with their leases, revisions."""
