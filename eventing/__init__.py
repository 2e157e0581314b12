"""The nouns of Penstock: event, HTTP binding, filters, delivery spec, routing table, errors.

Everything here is a value or a pure function. No I/O, no asyncio, no clock and no import of another package of ours.
"""
