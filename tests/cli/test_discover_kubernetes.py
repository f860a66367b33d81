"""`discover --from kubernetes`: manifests as services, workloads, routes and who needs whom."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from nexus_registry import plugin_manager
from nexus_registry.discovery.hosts import mentions
from nexus_registry.discovery.kubernetes import SOURCE
from nexus_registry.discovery.source import SourceError
from ose.registry.documents import parse, plain
from tests.cli.fake import FakeRegistry
from tests.cli.scoped import (
    SAMPLES,
    discover,
    edge,
    edges,
    entity,
    put,
    read,
    sampled,
    values,
    words_of,
)

SHOP = """\
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{name: http, port: 80, protocol: TCP}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: back}
spec: {selector: {app: api}, ports: [{port: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: web}}
    spec:
      serviceAccountName: web
      containers:
      - image: shop/web:1.2
        env:
        - {name: API_ADDR, value: "api.back.svc.cluster.local:8080"}
        - {name: PAY_URL, valueFrom: {configMapKeyRef: {name: web, key: pay}}}
        - {name: LOST_SERVICE_ADDR, value: "lost:80"}
        - {name: TOKEN, value: hunter2}
        envFrom: [{configMapRef: {name: web}, prefix: WEB_}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web}
data: {pay: "https://pay.example.org/v1", SELF_HOST: web}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: api, namespace: back, labels: {app.kubernetes.io/version: "3"}}
spec: {template: {metadata: {labels: {app: api}}, spec: {containers: [{image: api}]}}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: api, namespace: back}
spec:
  jobTemplate:
    spec:
      template:
        metadata: {labels: {app: other, version: "3"}}
        spec: {containers: [{image: "x:9", env: [{name: DB, value: "redis://api:1"}]}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: pay}
spec: {hosts: [pay.example.org], ports: [{number: 443, name: https, protocol: HTTPS}]}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web}
---
apiVersion: example.org/v1
kind: Widget
metadata: {name: w}
"""
ROUTES = """\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: reviews}
  spec: {selector: {app: reviews}}
- apiVersion: v1
  kind: Pod
  metadata: {name: r1, labels: {app: reviews, version: v1}}
  spec: {containers: [{image: "r:1"}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: r2, labels: {app: reviews, version: v2}}
  spec: {containers: [{image: "r:2"}]}
- apiVersion: networking.istio.io/v1
  kind: DestinationRule
  metadata: {name: reviews}
  spec:
    host: reviews
    trafficPolicy: {loadBalancer: {simple: RANDOM}}
    subsets: [{name: a, labels: {version: v1}}, {name: b, labels: {version: v2}}]
- apiVersion: networking.istio.io/v1
  kind: Gateway
  metadata: {name: front}
  spec:
    selector: {istio: ingressgateway}
    servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [example.org]}]
- apiVersion: networking.istio.io/v1
  kind: VirtualService
  metadata: {name: reviews}
  spec:
    hosts: [example.org]
    gateways: [front, mesh]
    http:
    - match: [{uri: {prefix: /new}, headers: {end-user: {exact: jo}}}]
      route: [{destination: {host: reviews, subset: b}}]
    - route:
      - {destination: {host: reviews.default.svc.cluster.local, subset: a}, weight: 90}
      - {destination: {host: reviews, subset: b}, weight: 10}
    - route: [{destination: {host: gone}}, {destination: {host: reviews, subset: c}}]
- apiVersion: gateway.networking.k8s.io/v1
  kind: Gateway
  metadata: {name: front}
  spec: {listeners: [{port: 80, protocol: HTTP, hostname: a.org}]}
- apiVersion: gateway.networking.k8s.io/v1
  kind: HTTPRoute
  metadata: {name: reviews}
  spec:
    parentRefs: [{name: front}, {name: missing}]
    rules:
    - matches: [{path: {value: /}}]
      backendRefs: [{name: reviews, port: 80, weight: 3}, {name: gone, weight: 1}]
- apiVersion: networking.k8s.io/v1
  kind: Ingress
  metadata: {name: in}
  spec:
    defaultBackend: {service: {name: reviews, port: {number: 80}}}
    rules:
    - host: b.org
      http: {paths: [{path: /r, backend: {service: {name: reviews, port: {name: web}}}}]}
"""


def test_objects_become_entities(tmp_path: Path) -> None:
    """Called as the cluster's DNS has them; workloads in the version of their label or image."""
    found = read(SOURCE, put(tmp_path, deploy__shop_yaml=SHOP))
    web = entity(found, "default:service:web")
    assert (web["type"], web["name"], web["version"]) == ("service", "web.default", "")
    assert web["labels"] == {"origin": "kubernetes:s", "source": "kubernetes", "kind": "Service"}
    assert web["metadata"] == {
        "file": "deploy/shop.yaml",
        "kubernetes_labels": {"app": "web"},
        "namespace": "default",
        "ports": ["http 80/TCP"],
        "selector": {"app": "web"},
        "service_type": "LoadBalancer",
    }
    workload = entity(found, "default:deployment:web")
    assert (workload["type"], workload["version"]) == ("workload", "1.2")
    assert workload["metadata"]["replicas"] == 2
    assert workload["metadata"]["environment"] == [
        "API_ADDR", "LOST_SERVICE_ADDR", "PAY_URL", "TOKEN", "WEB_SELF_HOST", "WEB_pay",
    ]  # fmt: skip
    assert entity(found, "back:statefulset:api")["version"] == "3"
    assert "hunter2" not in str(found.wanted.entities)


def test_names_are_unique(tmp_path: Path) -> None:
    """Two workloads of one name, namespace and version are told apart by their kind."""
    text = SHOP.replace('labels: {app: other, version: "3"}', 'labels: {version: "3"}')
    found = read(SOURCE, put(tmp_path, a_yaml=text))
    assert entity(found, "back:cronjob:api")["name"] == "api.back"
    assert entity(found, "back:statefulset:api")["name"] == "api.back (StatefulSet)"


def test_selectors_and_environments_become_relationships(tmp_path: Path) -> None:
    """By short and full names of hosts, in URLs, and by way of ConfigMaps."""
    found = read(SOURCE, put(tmp_path, a_yaml=SHOP))
    assert edges(found) == {
        ("default:service:web", "depends_on", "default:deployment:web"),
        ("default:deployment:web", "provides", "default:service:web"),
        ("back:service:api", "depends_on", "back:statefulset:api"),
        ("back:statefulset:api", "provides", "back:service:api"),
        ("default:deployment:web", "depends_on", "back:service:api"),
        ("default:deployment:web", "depends_on", "default:serviceentry:pay"),
        ("default:deployment:web", "depends_on", "default:service:web"),
        ("back:cronjob:api", "depends_on", "back:service:api"),
    }
    to_pay = edge(found, "default:deployment:web", "default:serviceentry:pay")["metadata"]
    assert to_pay["variables"] == ["WEB_pay", "PAY_URL"]
    assert found.unsatisfied == [("web.default", "LOST_SERVICE_ADDR=lost")]


def test_other_kinds_are_counted_and_named(tmp_path: Path) -> None:
    """One line for all of them."""
    found = read(SOURCE, put(tmp_path, a_yaml=SHOP))
    assert found.broken == ["1 ServiceAccount, 1 Widget: of kinds that are not registered"]


def test_routes_lead_with_their_weights(tmp_path: Path) -> None:
    """To services, and to the workloads of the subsets that they name."""
    found = read(SOURCE, put(tmp_path, a_yaml=ROUTES))
    route = "default:virtualservice:reviews"
    weights = {
        end: edge(found, route, f"default:{end}")["weight"]
        for end in ("service:reviews", "pod:r1", "pod:r2")
    }
    # All of it goes to r2 where the first rule matches.
    assert weights == {"service:reviews": 1.0, "pod:r1": 0.9, "pod:r2": 1.0}
    assert edge(found, route, "default:pod:r2")["metadata"]["matches"] == [
        "uri.prefix=/new, headers.end-user.exact=jo"
    ]
    assert edge(found, "default:httproute:reviews", "default:service:reviews")["weight"] == 0.75
    ingress = edge(found, "default:ingress:in", "default:service:reviews")["metadata"]
    assert (ingress["matches"], ingress["ports"]) == (["b.org/r"], ["80", "web"])
    assert edges(found) >= {
        ("default:istio-gateway:front", "routes_to", route),
        ("default:gateway:front", "routes_to", "default:httproute:reviews"),
    }
    assert found.unsatisfied == [
        ("reviews.default", "gateway missing.default"),
        ("reviews.default", "service gone"),
        ("reviews.default", "subset c of reviews.default"),
    ]


def test_what_destination_rules_say_is_the_services(tmp_path: Path) -> None:
    """Its subsets and its traffic policy; and several workloads stand in for each other."""
    found = read(SOURCE, put(tmp_path, a_yaml=ROUTES))
    service = entity(found, "default:service:reviews")["metadata"]
    assert service["subsets"] == ["a", "b"]
    assert service["traffic_policy"] == {"loadBalancer": {"simple": "RANDOM"}}
    assert edge(found, "default:service:reviews", "default:pod:r1")["metadata"]["alternative"]
    gateway = entity(found, "default:istio-gateway:front")
    assert (gateway["type"], gateway["metadata"]["ports"]) == ("mesh_node", ["https 443/HTTPS"])


def test_broken_files_do_not_stop_the_rest(tmp_path: Path) -> None:
    """A template, what is no object, and what has no name are told; so is what comes twice."""
    put(
        tmp_path,
        a_yaml=SHOP,
        b_yaml="{{ if .Values.x }}\nkind: Service\n{{ end }}\n",
        c_yaml="hello: 1\n---\napiVersion: v1\nkind: Service\nmetadata: {name: 'a/b'}\n",
        d_yaml="apiVersion: v1\nkind: Service\nmetadata: {name: web}\n",
        node_modules__x_yaml="not read",
    )
    found = read(SOURCE, tmp_path)
    assert len(found.wanted.entities) == 6
    assert [line[:30] for line in found.broken] == [
        "b.yaml:1:2: a key that is a li",
        "b.yaml:2:1: not YAML: did not ",
        "b.yaml: no Kubernetes object: ",
        "c.yaml: no Kubernetes object: ",
        "c.yaml: Service a/b: no valid ",
        "a.yaml: Service web.default st",
        "1 ServiceAccount, 1 Widget: of",
    ]


def test_running_it_again_writes_nothing(tmp_path: Path) -> None:
    """And a weight that changes is changed."""
    registry = FakeRegistry()
    put(tmp_path, a_yaml=ROUTES)
    assert discover(registry, "--from", "kubernetes", str(tmp_path))["sent"] > 0
    assert discover(registry, "--from", "kubernetes", str(tmp_path))["sent"] == 0
    put(tmp_path, a_yaml=ROUTES.replace("weight: 90", "weight: 30"))
    told = discover(registry, "--from", "kubernetes", str(tmp_path))
    assert told["relationships"]["updated"]["count"] == told["sent"] == 1
    [changed] = [
        one
        for one in registry.relationships.values()
        if one.source_id.endswith("virtualservice:reviews") and one.target_id.endswith("pod:r1")
    ]
    assert changed.weight == 0.75


def test_folders_are_apart(tmp_path: Path) -> None:
    """Each path is a scope of its own, unless one is named."""
    registry = FakeRegistry()
    one, two = put(tmp_path / "one", a_yaml=SHOP), put(tmp_path / "two", a_yaml=ROUTES)
    discover(registry, "--from", "kubernetes", str(one))
    told = discover(registry, "--from", "kubernetes", str(two))
    assert told["entities"]["removed"]["count"] == told["entities"]["kept"]["count"] == 0
    origins = {entity.labels["origin"] for entity in registry.entities.values()}
    assert origins == {f"kubernetes:{one.resolve()}", f"kubernetes:{two.resolve()}"}


@pytest.mark.parametrize(
    ("variable", "value", "hosts"),
    [
        ("X", "redis:6379", {"redis"}),
        ("X", "redis", set()),
        ("REDIS_HOST", "redis", {"redis"}),
        ("x.addr", "Redis", {"redis"}),
        ("X", "postgres://u:p@db.back:5432/x?y", {"db.back"}),
        ("X", "jdbc:postgresql://db/x", {"db"}),
        ("KAFKA_BROKERS", "k1:9092, k2:9092;k3", {"k1", "k2", "k3"}),
        ("X_HOST", "localhost", set()),
        ("X_HOST", "10.0.0.1:80", set()),
        ("X", "a/b:80", set()),
        ("X", "12:30", set()),
        ("GHOST", "a", set()),
    ],
)
def test_hosts_are_told_from_other_values(variable: str, value: str, hosts: set[str]) -> None:
    """By their form, and by the variable's name where they are bare words."""
    assert {mention.host for mention in mentions(variable, value)} == hosts


@pytest.mark.parametrize("text", ["", "hello: 1\n", "a: b: c\n"])
def test_what_has_no_objects_is_exit_code_2(tmp_path: Path, text: str) -> None:
    """With what is wrong."""
    put(tmp_path, a_yaml=text)
    args = ("discover", "--from", "kubernetes", str(tmp_path))
    result = FakeRegistry().run(plugin_manager.manager, *args)
    assert result.exit_code == 2
    assert "has no Kubernetes objects" in result.stderr


OBJECTS = [
    plain(document.root)
    for text in (SHOP, ROUTES)
    for document in parse(text.encode(), "x.yaml").documents
]
WORDS = words_of(OBJECTS)


@given(content=values([*WORDS, "apiVersion", "kind", "metadata", "name", "spec"]))
def test_any_object_is_read_or_told(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    """Whatever stands in the place of a spec: nothing is raised, relationships have their ends."""
    folder = tmp_path_factory.getbasetemp() / "any-kubernetes"
    put(folder, a_json=json.dumps(content))
    with suppress(SourceError):
        read(SOURCE, folder)
    objects = [*OBJECTS[:8], *OBJECTS[-1]["items"]]
    items = [{**one, "spec": content} for one in objects]
    put(folder, a_json=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    read(SOURCE, folder)


@sampled
def test_the_well_known_boutique() -> None:
    """Every call that its environment names is a dependency; the one assistant is not there."""
    found = read(SOURCE, SAMPLES / "boutique")
    needs = {
        (source.rpartition(":")[2], target.rpartition(":")[2])
        for source, kind, target in edges(found)
        if kind == "depends_on" and ":deployment:" in source
    }
    assert {target for source, target in needs if source == "checkoutservice"} == {
        "cartservice", "currencyservice", "emailservice", "paymentservice",
        "productcatalogservice", "shippingservice",
    }  # fmt: skip
    assert {("cartservice", "redis-cart"), ("loadgenerator", "frontend")} <= needs
    assert found.unsatisfied == [
        ("frontend.default", "SHOPPING_ASSISTANT_SERVICE_ADDR=shoppingassistantservice")
    ]


@sampled
def test_the_well_known_bookinfo() -> None:
    """Reviews has three workloads; the last of its routes in the order of files counts."""
    found = read(SOURCE, SAMPLES / "bookinfo")
    backing = {
        target
        for source, kind, target in edges(found)
        if (source, kind) == ("default:service:reviews", "depends_on")
    }
    assert backing == {f"default:deployment:reviews-v{n}" for n in (1, 2, 3)}
    route = "default:virtualservice:reviews"
    assert edge(found, "default:istio-gateway:bookinfo-gateway", "default:virtualservice:bookinfo")
    assert {target for source, _, target in edges(found) if source == route} == {
        "default:service:reviews", "default:deployment:reviews-v1", "default:deployment:reviews-v2",
    }  # fmt: skip
