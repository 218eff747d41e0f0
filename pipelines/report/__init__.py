"""The report of an update: one page for people, and the matrix as a picture."""
