"""Offline: what learns."""
