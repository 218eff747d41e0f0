"""The controller: it gives jobs to a launcher, follows them, and writes their ends down."""
