"""The dispatcher: reads each Broker's log, matches, delivers, and remembers what is settled.

It sees the routing table, the channel contract and the network of subscribers; nothing of Kubernetes.
"""
