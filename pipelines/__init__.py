"""Offline: what learns."""

if __name__ != "ratchet.pipelines":  # from the project's root one could, and would load all twice
    raise ImportError(f"import ratchet.pipelines, not {__name__}")
