"""Server-side apply: who owns which fields of an object, merging by owner, conflicts.

Everything here is pure: JSON values, a schema and the time go in, JSON values or an error come out. Nothing here knows
HTTP, the store, or any kind. The rules are those of structured-merge-diff, which the Kubernetes API server uses.
"""
