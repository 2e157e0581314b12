"""From objects to statuses and routes: pure functions, which are given what they may look at and what is known.

Nothing here reads an API, a clock or a channel. What a function looked at is recorded by `world.Seen`, so that the
control loop calls it again when one of these objects changes.
"""
