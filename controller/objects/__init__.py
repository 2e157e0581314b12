"""The kinds that Penstock knows, as data: schema, printer columns, defaulting, validation, and typed views of objects.

Pure: no I/O, no asyncio. An object is plain JSON (`JsonObject`), as it goes over the wire.
"""
