"""The SQLite channel: every log and all state of one process in one file, `penstock.db`.

    loop                                   writer thread (its own connection)
    append, put, trim, ... ──► queue ──►   all that waits in one transaction ─► fsync ─► files still there?
    futures, ring, waiters ◄── one call_soon_threadsafe for each commit ◄──┘
    read, load, list ──────► reader thread (read-only connection)

What may live here: SQL, threads, files. Positions are dense within a log, one transaction holds replies and what they
settle, and the lock on the store is the claim on all slots.
"""
