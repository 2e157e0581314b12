"""`serve -f`: manifests that are applied at start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from broker.errors import UsageError
from controller.kube.errors import KubeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from controller.kube.client import KubeClient
    from controller.objects.kind import Kind

log = structlog.get_logger()

SUFFIXES = (".yaml", ".yml", ".json")


class Manifests:
    """Reads manifests and applies them, in the order of their files and documents."""

    def __init__(self, kube: KubeClient, kinds: Sequence[Kind]) -> None:
        self._kube = kube
        self._kinds = {(kind.api_version, kind.kind): kind for kind in kinds}

    async def apply(self, paths: Sequence[Path]) -> None:
        """Make or change every object. Raises UsageError that names the file, the object and what is wrong."""
        for path in _files(paths):
            for manifest in _documents(path):
                await self._apply(path, manifest)

    async def _apply(self, path: Path, manifest: dict[str, Any]) -> None:
        kind = self._kinds.get((str(manifest.get("apiVersion")), str(manifest.get("kind"))))
        if kind is None:
            known = ", ".join(sorted({name for _, name in self._kinds}))
            raise UsageError(
                f"-f {path}: no kind {manifest.get('kind')!r} in {manifest.get('apiVersion')!r}; known are {known}"
            )
        try:
            applied = await self._kube.create_or_patch(kind, manifest)
        except KubeError as error:
            raise UsageError(f"-f {path}: {error}") from error
        metadata = applied.object["metadata"]
        log.info(
            "applied", object=f"{kind.kind} {metadata.get('namespace', '')}/{metadata['name']}", result=applied.action
        )


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(one for one in path.iterdir() if one.suffix in SUFFIXES)
        elif path.exists():
            yield path
        else:
            raise UsageError(f"-f {path}: there is no such file or directory")


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    from ruamel.yaml import YAML  # noqa: PLC0415 - only needed where manifests are given
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415 - as above

    try:
        documents = list(YAML(typ="safe").load_all(path))
    except YAMLError as error:
        raise UsageError(f"-f {path}: no valid YAML: {error}") from error
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict):
            raise UsageError(f"-f {path}: a document is no object: it must begin with apiVersion and kind")
        if document.get("kind") == "List":
            yield from document.get("items") or ()
        else:
            yield document
