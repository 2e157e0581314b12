"""`/api`, `/apis` and what is below them: which groups, versions and resources there are. Plain and aggregated form."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.embedded.registry import Registry
    from controller.objects.kind import JsonObject, Kind


VERSION: JsonObject = {
    "major": "1",
    "minor": "32",
    "gitVersion": "v1.32.3+penstock",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "go1.23",
    "compiler": "gc",
    "platform": "linux/amd64",
}
"""The Kubernetes version whose API this is. kubectl picks its own behaviour by it."""


def aggregated(registry: Registry, version: str, *, core: bool) -> JsonObject:
    """APIGroupDiscoveryList of the core group, or of all others; `version` is v2, or v2beta1 for kubectl before 1.30."""
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": [
            {
                "metadata": {"creationTimestamp": None} if core else {"name": group, "creationTimestamp": None},
                "versions": [
                    {
                        "version": version_name,
                        "freshness": "Current",
                        "resources": [_discovered(registry, kind) for kind in kinds],
                    }
                    for version_name, kinds in versions.items()
                ],
            }
            for group, versions in registry.groups().items()
            if (group == "") is core
        ],
    }


def _discovered(registry: Registry, kind: Kind) -> JsonObject:
    found = {
        "resource": kind.plural,
        "responseKind": _gvk(kind),
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(registry.verbs(kind)),
        "shortNames": list(kind.short_names),
        "categories": list(kind.categories),
        "subresources": [
            {"subresource": name, "responseKind": _gvk(kind), "verbs": list(verbs)}
            for name, verbs in registry.subresources(kind).items()
        ],
    }
    return {key: value for key, value in found.items() if value}


def _gvk(kind: Kind) -> JsonObject:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def api_versions(host: str) -> JsonObject:
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}],
    }


def group_list(registry: Registry) -> JsonObject:
    groups = [_group(name, versions) for name, versions in registry.groups().items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(registry: Registry, name: str) -> JsonObject | None:
    versions = registry.groups().get(name) if name else None
    return {"kind": "APIGroup", "apiVersion": "v1"} | _group(name, versions) if versions else None


def _group(name: str, versions: Mapping[str, object]) -> JsonObject:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def resource_list(registry: Registry, group_name: str, version: str) -> JsonObject | None:
    """APIResourceList of a group version; None where there is no such."""
    kinds = registry.groups().get(group_name, {}).get(version)
    if kinds is None:
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group_name}/{version}" if group_name else version,
        "resources": [row for kind in kinds for row in _resources(registry, kind)],
    }


def _resources(registry: Registry, kind: Kind) -> Sequence[JsonObject]:
    main: JsonObject = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(registry.verbs(kind)),
    }
    if kind.short_names:
        main["shortNames"] = list(kind.short_names)
    if kind.categories:
        main["categories"] = list(kind.categories)
    below = [
        {
            "name": f"{kind.plural}/{name}",
            "singularName": "",
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": list(verbs),
        }
        for name, verbs in registry.subresources(kind).items()
    ]
    return [main, *below]
