"""The manifests for Kubernetes and the compose file: every name in them refers to something that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
Document = dict[str, Any]


def load(path: Path) -> list[Document]:
    return list(yaml.safe_load_all(path.read_text()))


def manifests(*kinds: str) -> list[Document]:
    (kustomization,) = load(KUBERNETES / "kustomization.yaml")
    found = [document for name in kustomization["resources"] for document in load(KUBERNETES / name)]
    return [document for document in found if not kinds or document["kind"] in kinds]


def kustomization() -> Document:
    return load(KUBERNETES / "kustomization.yaml")[0]


def variables() -> dict[str, str]:
    (config,) = kustomization()["configMapGenerator"]
    return dict(literal.split("=", 1) for literal in config["literals"])


def pods() -> list[Document]:
    return [document["spec"]["template"]["spec"] for document in manifests("Deployment")]


def labels() -> list[dict[str, str]]:
    return [document["spec"]["template"]["metadata"]["labels"] for document in manifests("Deployment")]


def test_kustomize_finds_every_manifest() -> None:
    assert {path.name for path in KUBERNETES.iterdir()} == {"kustomization.yaml", *kustomization()["resources"]}
    names = [(document["kind"], document["metadata"]["name"]) for document in manifests()]
    assert len(names) == len(set(names))
    namespace = {name for kind, name in names if kind == "Namespace"}
    assert namespace == {kustomization()["namespace"]}


def test_every_selector_selects_pods() -> None:
    for document in manifests("Deployment"):
        assert document["spec"]["selector"]["matchLabels"] == document["spec"]["template"]["metadata"]["labels"]
    for document in manifests("PodDisruptionBudget"):
        assert document["spec"]["selector"]["matchLabels"] in labels()
    for document in manifests("Service"):
        assert document["spec"]["selector"] in labels()


def test_every_pod_may_run_under_the_namespaces_policy() -> None:
    (namespace,) = manifests("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_every_container_refers_to_things_that_are_there() -> None:
    images = {image["name"] for image in kustomization()["images"]}
    configs = {config["name"] for config in kustomization()["configMapGenerator"]}
    for pod in pods():
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert container["image"] in images
            assert {source["configMapRef"]["name"] for source in container["envFrom"]} <= configs
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes
            assert "HERD_ZOOKEEPER" in variables()
            used = {word[2:-1] for word in container["args"] if word.startswith("$(")}
            assert used <= variables().keys()


def test_every_probe_asks_the_port_on_which_its_process_listens() -> None:
    for pod in pods():
        for container in pod["containers"]:
            (port,) = container["ports"]
            listen = container["args"][container["args"].index("--listen") + 1]
            assert listen == f"0.0.0.0:{port['containerPort']}"
            assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": port["name"]}
            assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": port["name"]}


def test_the_scaler_asks_the_service_of_the_masters() -> None:
    (scaled,) = manifests("ScaledObject")
    (service,) = manifests("Service")
    deployments = {document["metadata"]["name"] for document in manifests("Deployment")}
    (trigger,) = scaled["spec"]["triggers"]
    url = urlsplit(trigger["metadata"]["url"])

    assert scaled["spec"]["scaleTargetRef"]["name"] in deployments
    assert url.hostname == f"{service['metadata']['name']}.{kustomization()['namespace']}"
    assert url.port == service["spec"]["ports"][0]["port"]
    assert (url.path, trigger["metadata"]["valueLocation"]) == ("/scale", "slots_wanted")


def test_the_compose_file_refers_to_things_that_are_there() -> None:
    (compose,) = load(DEPLOY / "compose/compose.yaml")
    services = compose["services"]
    volumes = [mount.partition(":")[0] for service in services.values() for mount in service.get("volumes", ())]
    assert sorted(volumes) == sorted(compose["volumes"])
    for service in services.values():
        assert set(service.get("depends_on", ())) <= services.keys()
        assert "image" in service


def test_the_compose_file_has_an_ensemble_that_the_roles_know() -> None:
    (compose,) = load(DEPLOY / "compose/compose.yaml")
    services = compose["services"]
    ensemble = [name for name in services if name.startswith("zk")]
    for number, name in enumerate(ensemble, 1):
        environment = services[name]["environment"]
        assert environment["ZOO_MY_ID"] == str(number)
        assert environment["ZOO_SERVERS"].split() == [
            f"server.{each}={host}:2888:3888;2181" for each, host in enumerate(ensemble, 1)
        ]
    for name in ("master", "worker"):
        hosts = services[name]["environment"]["HERD_ZOOKEEPER"].partition("/")[0]
        assert hosts.split(",") == [f"{host}:2181" for host in ensemble]
        assert services[name]["read_only"] is True
