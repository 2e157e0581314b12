"""Channels: the durable logs behind Brokers, and the state of their dispatch.

`driver` is the contract, `records` the values that it stores, `channel` the portable half that is written once, and one
module or package per backend. A backend does little: it stores, reads and reports typed errors. It never retries,
filters, orders or logs, knows nothing of HTTP or Kubernetes, and never sees another backend.
"""
