"""Measures an installation: what an event costs, beside what a bare HTTP request costs in the same run."""
