"""Online: what users talk to."""
