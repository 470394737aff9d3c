"""The version of this package; read by the build, and told to xDS servers as `user_agent_version`."""

VERSION = "0.1.0.dev0"
