"""State on S3: what outlives this machine. The home is a copy of it that may vanish."""
