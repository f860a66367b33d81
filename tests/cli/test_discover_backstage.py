"""`discover --from backstage`: a software catalog as entities and relationships."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from nexus_registry import plugin_manager
from nexus_registry.discovery.backstage import SOURCE, Reference
from nexus_registry.discovery.source import SourceError
from ose.registry.documents import parse, plain
from tests.cli.fake import FakeRegistry
from tests.cli.scoped import discover, edge, edges, entity, put, read, values, words_of

CATALOG = """\
apiVersion: backstage.io/v1alpha1
kind: Component
metadata: {name: web, title: The web, tags: [js], annotations: {a/b: c}, links: [{url: "http://x"}]}
spec:
  type: website
  lifecycle: production
  owner: team-a
  system: shop
  dependsOn: ["resource:db", "component:missing", "a b"]
  consumesApis: [Orders]
---
apiVersion: backstage.io/v1alpha1
kind: Component
metadata: {name: orders}
spec: {type: service, owner: User:default/jane, providesApis: [orders], subcomponentOf: web}
---
apiVersion: backstage.io/v1alpha1
kind: API
metadata: {name: orders}
spec: {type: openapi, owner: team-a, definition: x}
---
apiVersion: backstage.io/v1alpha1
kind: Resource
metadata: {name: db, namespace: infra}
spec: {type: database, owner: "group:default/team-a", dependencyOf: ["component:default/orders"]}
---
apiVersion: backstage.io/v1alpha1
kind: Resource
metadata: {name: db}
spec: {type: database}
---
apiVersion: backstage.io/v1alpha1
kind: System
metadata: {name: shop}
spec: {domain: trade}
---
apiVersion: backstage.io/v1alpha1
kind: Domain
metadata: {name: trade}
---
apiVersion: backstage.io/v1alpha1
kind: Group
metadata: {name: team-a}
spec: {type: team, children: [team-b], members: [jane]}
---
apiVersion: backstage.io/v1alpha1
kind: Group
metadata: {name: team-b}
spec: {parent: team-a}
---
apiVersion: backstage.io/v1alpha1
kind: User
metadata: {name: jane}
spec: {memberOf: [team-b], profile: {displayName: Jane}}
---
apiVersion: scaffolder.backstage.io/v1beta3
kind: Template
metadata: {name: t}
"""


def test_the_catalog_becomes_a_graph(tmp_path: Path) -> None:
    """References are read with their defaults, in any case of letters."""
    found = read(SOURCE, catalog(tmp_path, CATALOG))
    assert edges(found) == {
        ("component:default:web", "depends_on", "resource:default:db"),
        ("component:default:web", "depends_on", "api:default:orders"),
        ("component:default:web", "owned_by", "group:default:team-a"),
        ("component:default:web", "belongs_to", "system:default:shop"),
        ("service:default:orders", "owned_by", "user:default:jane"),
        ("service:default:orders", "provides", "api:default:orders"),
        ("api:default:orders", "depends_on", "service:default:orders"),
        ("service:default:orders", "belongs_to", "component:default:web"),
        ("service:default:orders", "depends_on", "resource:infra:db"),
        ("api:default:orders", "owned_by", "group:default:team-a"),
        ("resource:infra:db", "owned_by", "group:default:team-a"),
        ("system:default:shop", "belongs_to", "domain:default:trade"),
        ("group:default:team-b", "belongs_to", "group:default:team-a"),
        ("user:default:jane", "belongs_to", "group:default:team-a"),
        ("user:default:jane", "belongs_to", "group:default:team-b"),
    }
    assert found.unsatisfied == [
        ("component:default/web", "dependsOn a b"),
        ("component:default/web", "dependsOn component:default/missing"),
    ]
    assert found.broken == ["1 Template: of kinds that are not registered"]
    via = edge(found, "group:default:team-b", "group:default:team-a")["metadata"]["via"]
    assert via == ["children", "parent"]


def test_what_is_known_of_an_entity_is_kept(tmp_path: Path) -> None:
    """Title, lifecycle, tags and the like; the definition of an API is not."""
    found = read(SOURCE, catalog(tmp_path, CATALOG))
    web = entity(found, "component:default:web")
    assert (web["type"], web["name"]) == ("component", "web")
    assert web["labels"] == {"origin": "backstage:s", "source": "backstage", "kind": "component"}
    assert web["metadata"] == {
        "annotations": {"a/b": "c"},
        "catalog_type": "website",
        "display_name": "The web",
        "file": "catalog-info.yaml",
        "lifecycle": "production",
        "links": ["http://x"],
        "namespace": "default",
        "tags": ["js"],
    }
    assert entity(found, "resource:infra:db")["name"] == "db.infra"
    assert entity(found, "user:default:jane")["metadata"]["display_name"] == "Jane"


def catalog(folder: Path, text: str) -> Path:
    """A folder with a catalog."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "catalog-info.yaml").write_text(text)
    return folder


def location(*targets: str, kind: str = "file") -> str:
    """A location that names files."""
    spec = {"type": kind, "targets": targets}
    return json.dumps({"apiVersion": "backstage.io/v1alpha1", "kind": "Location", "spec": spec})


def test_locations_are_followed_within_the_folder(tmp_path: Path) -> None:
    """Wildcards too, in circles once; what lies outside and what has an address is told."""
    folder = catalog(
        tmp_path / "p",
        location("./more/*.yaml", "../out.yaml", "/etc/passwd", "https://x/y", "gone.yaml"),
    )
    put(tmp_path, out_yaml=CATALOG)
    put(folder, more__a_yaml=CATALOG, more__b_yaml=location("../catalog-info.yaml"))
    (folder / "more" / "c.yaml").symlink_to(tmp_path / "out.yaml")
    for path in (folder, folder / "catalog-info.yaml"):
        found = read(SOURCE, path)
        assert len(found.wanted.entities) == 10
        assert [line.partition(" below")[0] for line in found.broken[:4]] == [
            "catalog-info.yaml: '../out.yaml' is no file",
            "catalog-info.yaml: '/etc/passwd' is no file",
            "catalog-info.yaml: https://x/y is not a file, and is not fetched",
            "catalog-info.yaml: 'gone.yaml' is no file",
        ]


def test_every_catalog_of_a_folder_is_read(tmp_path: Path) -> None:
    """One that says the same again is left out, and told; so is what is not of Backstage."""
    catalog(tmp_path / "a", CATALOG)
    catalog(tmp_path / "b", CATALOG[: CATALOG.index("---")])
    catalog(tmp_path / "c", "kind: Component\n---\na: b: c\n")
    found = read(SOURCE, tmp_path)
    assert len(found.wanted.entities) == 10
    assert [line[:40] for line in found.broken] == [
        "c/catalog-info.yaml:3:5: not YAML: mappi",
        "b/catalog-info.yaml: component:default/w",
        "c/catalog-info.yaml: not of Backstage: n",
        "1 Template: of kinds that are not regist",
    ]


def test_running_it_again_writes_nothing(tmp_path: Path) -> None:
    """And what is gone is removed."""
    registry = FakeRegistry()
    discover(registry, "--from", "backstage", str(catalog(tmp_path, CATALOG)))
    assert discover(registry, "--from", "backstage", str(tmp_path))["sent"] == 0
    catalog(tmp_path, CATALOG.replace("name: db}", "name: cache}"))
    told = discover(registry, "--from", "backstage", str(tmp_path))
    assert told["entities"]["created"]["names"] == ["cache"]
    assert told["entities"]["removed"]["names"] == ["db"]


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("a", "component:own/a"),
        ("API:a", "api:own/a"),
        ("Other/A", "component:other/A"),
        ("user:b/a.b_c-d", "user:b/a.b_c-d"),
        ("a b", "None"),
        ("a:b:c", "None"),
        ("", "None"),
        ("../a", "None"),
    ],
)
def test_references_have_defaults(text: str, reference: str) -> None:
    """The kind is the field's, the namespace that of who refers."""
    assert str(Reference.parse(text, "component", "own")) == reference


def test_what_has_no_catalog_is_exit_code_2(tmp_path: Path) -> None:
    """With what was looked for."""
    args = ("discover", "--from", "backstage", str(tmp_path))
    result = FakeRegistry().run(plugin_manager.manager, *args)
    assert result.exit_code == 2
    assert "no catalog-info.yaml" in result.stderr


ENTITIES = [plain(one.root) for one in parse(CATALOG.encode(), "x.yaml").documents]


@given(content=values([*words_of(ENTITIES), "component:web", "*", "./*", "\0"]))
def test_anything_in_the_place_of_a_spec_is_read_or_told(
    tmp_path_factory: pytest.TempPathFactory, content: Any
) -> None:
    """Nothing is raised, and every relationship has its ends."""
    folder = tmp_path_factory.getbasetemp() / "any-backstage"
    items = [{**one, "spec": content} for one in ENTITIES]
    items += [{**ENTITIES[0], "metadata": content}, json.loads(location()) | {"spec": content}]
    put(folder, catalog_json="\n".join(map(json.dumps, items)))
    read(SOURCE, folder / "catalog.json")
    put(folder, catalog_json=json.dumps(content))
    with suppress(SourceError):
        read(SOURCE, folder / "catalog.json")
