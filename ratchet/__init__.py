"""Ratchet: teach one model task after task, prove that nothing was lost, serve them all."""

DISTRIBUTION = "ratchet-continual"
"""What one installs, and asks for its version; `ratchet` on the package index is another's."""
