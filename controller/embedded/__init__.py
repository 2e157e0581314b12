"""The Kubernetes API that Penstock serves where there is no cluster: real kubectl and kn are its clients.

It takes the kinds it serves as data and knows no Broker. `routes` is the ASGI application, `resources` the verbs,
`admission` and `lifecycle` what happens to an object on its way to the `store`, whose log of revisions `watch` reads.
"""
