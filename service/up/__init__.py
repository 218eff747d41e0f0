"""`ratchet up`: the whole service on one machine, started, watched over and stopped."""
