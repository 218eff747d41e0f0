"""What answers a text from a version's files: one code for the router and `ratchet predict`."""
