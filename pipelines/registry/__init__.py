"""Versions on disk and on S3: their manifest, their aliases, MLflow's registry as a mirror."""
