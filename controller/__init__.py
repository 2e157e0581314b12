"""The control plane: from Kubernetes objects to statuses and the routing table.

`objects` has the kinds as data (schemas, defaulting, validation), `reconcile` pure functions over them, `kube` is the
only code that speaks the Kubernetes API as a client, `embedded` serves that API where there is no cluster and knows no
Broker, `loop` joins them. Nothing here is on the way of an event.
"""
