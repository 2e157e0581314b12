"""Penstock as a program: the ingress, the command line, and `runtime`, the one place that builds everything."""

__version__ = "0.1.0"
