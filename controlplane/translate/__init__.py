"""Model to xDS, pure: the same configuration and instances always give the same resources."""
