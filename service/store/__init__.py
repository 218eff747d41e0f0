"""The truth about jobs, lineages and keys, in SQLite or PostgreSQL.

Functions take a `Database` first and return frozen records. Every change is one transaction that
compares what it found before it sets anything, with the event that tells of it. Locks are taken
in one order throughout (lease, key, lineage, job), so transactions never wait in a circle.
"""
