"""The ingress: takes CloudEvents over HTTP and answers 202 once they are durable.

`core` decides (headers and body in, answer out), `app` is its ASGI side.
"""
