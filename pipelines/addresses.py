"""Addresses of stores and servers, as they may be shown."""

from __future__ import annotations


def without_credentials(address: str) -> str:
    """An address without the user and the password that somebody may have put into it."""
    scheme, separator, rest = address.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{separator}{place.rpartition('@')[2]}{slash}{path}"
