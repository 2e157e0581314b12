"""Sizes as Kubernetes writes them."""

from __future__ import annotations

import pytest

from controller.objects.quantities import parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", 1048576),
        ("1k", 1000),
        ("1Ki", 1024),
        ("500M", 500_000_000),
        ("1Gi", 1 << 30),
        ("1.5Gi", 3 << 29),
        ("0.1Ki", 103),
        ("2Ti", 2 << 40),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "Gi", "-1", "1 Gi", "1GiB", "1g", "1K", "1e3", "١"])
def test_what_is_no_size_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 1Gi, 500M or 1048576"):
        parse_bytes(text)
