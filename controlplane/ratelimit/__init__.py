"""The control plane's rate limit service: what counts, where it is counted, and what the counts come to."""
