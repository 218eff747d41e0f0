"""Files on a disk: written in one step, locked, found by a pattern, read as YAML."""
