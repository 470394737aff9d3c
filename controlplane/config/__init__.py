"""YAML to model: reading, checking field by field, checking across resources, watching a directory."""
