"""The NATS JetStream channel: a stream for each Broker, and one KV bucket with the state of dispatch.

    append ──► publish_async, many in flight ──► ack of the stream = durable
    read   ◄── follower: what a consumer pushed of late, in memory; else direct get by position
    put    ──► one atomic batch on the bucket, with the claim as its condition
    claims ◄─► a lease for each process, a claim record for each slot, both in the bucket

What may live here: NATS. Positions are stream sequences, which several partitions share, so they have gaps. The server
must be 2.12 or newer: older ones take atomic batches for single messages and say nothing.
"""
