"""The command line: one module a group of verbs; nothing heavy is imported before it is needed."""

from ratchet.service.cli.app import main

__all__ = ["main"]
