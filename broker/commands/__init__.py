"""The commands that look, send and receive: clients of Penstock over HTTP, never part of the process that serves.

Each module exports one plain function that typer turns into a command. What is slow to import is imported inside it.
"""
