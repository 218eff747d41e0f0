"""Ratchet: teach one model task after task, prove that nothing was lost, serve them all."""
