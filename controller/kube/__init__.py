"""The only code that speaks the Kubernetes API as a client: configuration, requests, watches, and a local copy kept fresh.

It moves plain JSON objects and decides nothing about them. Nothing is imported here: httpx comes with `client`.
"""
