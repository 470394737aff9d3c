"""The commands of `meshctl`, a module for each group. Called by `controlplane.cli`."""
