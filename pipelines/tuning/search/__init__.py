"""The search of a study: what is tried next, and the trials that try it."""
