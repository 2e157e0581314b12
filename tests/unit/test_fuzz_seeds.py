"""The inputs that fuzzing has kept still keep the promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.checks import check_cesql, check_http_binding

SEEDS = Path(__file__).parent.parent / "fuzz" / "seeds"


@pytest.mark.parametrize(("kind", "check"), [("cesql", check_cesql), ("http_binding", check_http_binding)])
def test_the_seeds_keep_the_promises(kind: str, check: object) -> None:
    seeds = sorted((SEEDS / kind).iterdir())
    assert len(seeds) > 20
    for seed in seeds:
        assert callable(check)
        check(seed.read_bytes())
