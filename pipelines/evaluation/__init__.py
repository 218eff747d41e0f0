"""The accuracy matrix and every number made of it."""
