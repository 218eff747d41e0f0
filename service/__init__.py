"""Online: what users talk to."""

if __name__ != "ratchet.service":  # from the project's root one could, and would load all twice
    raise ImportError(f"import ratchet.service, not {__name__}")
