"""What an operator configured, as frozen values: decoded by `controlplane.config`, read by `controlplane.translate`."""
