"""Look for bytes that break what `checks` says must hold: `python -m tests.fuzz.run cesql|http_binding CORPUS [libFuzzer flags]`.

Needs atheris (`pip install atheris`), which is no dependency of Penstock.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run until stopped, or until something breaks."""
    import atheris  # type: ignore[import-untyped,unused-ignore] # only who fuzzes has it

    with atheris.instrument_imports(include=["eventing"]):
        from tests.fuzz import checks

    targets = {"cesql": checks.check_cesql, "http_binding": checks.check_http_binding}
    if len(sys.argv) < 2 or sys.argv[1] not in targets:
        raise SystemExit(__doc__)
    atheris.Setup([sys.argv[0], *sys.argv[2:]], targets[sys.argv[1]])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
