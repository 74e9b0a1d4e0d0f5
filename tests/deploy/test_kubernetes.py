"""The manifest: as Kubernetes' schemas want it, with few privileges, and its pods run as they are.

The rules of Jobs that are in no schema are those of the API server's own check of a Job.
"""

from __future__ import annotations

import copy
import re
import subprocess
from collections.abc import Callable
from typing import Any

import kubernetes_validate
import pytest
import yaml

from qmedsam import exit_status
from qmedsam.batch.shards import Shard
from qmedsam.cli import build_parser
from tests.conftest import ROOT
from tests.deploy.conftest import NAMES, done_cases, read_reports

MANIFEST = ROOT / "deploy" / "kubernetes-job.yaml"
FIRST_MINOR = 29  # the first that has retries by index without being asked
LATEST_MINOR = int(kubernetes_validate.latest_version().split(".")[1])
VERSIONS = [f"1.{minor}" for minor in range(FIRST_MINOR, LATEST_MINOR + 1)]
POLICY, JOB = yaml.safe_load_all(MANIFEST.read_text())
POD = JOB["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", [POLICY, JOB], ids=["NetworkPolicy", "Job"])
def test_the_manifest_fits_the_schemas(document, version):
    assert kubernetes_validate.validate(document, version, strict=True) == version


BROKEN: dict[str, Callable[[dict[str, Any]], object]] = {
    "text-for-a-number": lambda job: job["spec"].update(completions="16"),
    "a-number-for-text": lambda job: container_of(job)["env"][0].update(value=16),
    "no-template": lambda job: job["spec"].pop("template"),
    "unknown-field": lambda job: container_of(job)["securityContext"].update(readOnlyRoot=True),
    "misplaced-field": lambda job: job["spec"].update(restartPolicy="Never"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_manifest_does_not_fit(name):
    job = copy.deepcopy(JOB)
    BROKEN[name](job)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, VERSIONS[-1], strict=True)


def test_nothing_reaches_the_network():
    labels = JOB["spec"]["template"]["metadata"]["labels"]
    assert POLICY["spec"] == {
        "podSelector": {"matchLabels": labels},
        "policyTypes": ["Ingress", "Egress"],  # and no rule that allows any
    }


def test_the_pod_has_no_privilege():
    """As the Pod Security Standard `restricted` has it, and a read-only root besides."""
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(POD)
    assert POD["automountServiceAccountToken"] is False
    context = POD["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert f"USER {context['runAsUser']}" in (ROOT / "Dockerfile").read_text()
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    kinds = {kind for volume in POD["volumes"] for kind in volume if kind != "name"}
    assert kinds == {"persistentVolumeClaim", "emptyDir"}


def test_what_is_written_has_bounds():
    """The inputs are read alone; outputs are a claim, and temporary files end at a size."""
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    mounts = {mount["name"]: mount for mount in CONTAINER["volumeMounts"]}
    assert volumes.keys() == mounts.keys()
    assert {mount["mountPath"] for mount in mounts.values() if not mount.get("readOnly")} == {
        "/workspace/outputs",
        "/tmp",
    }
    assert volumes["inputs"]["persistentVolumeClaim"]["readOnly"] is True
    assert all("sizeLimit" in each["emptyDir"] for each in volumes.values() if "emptyDir" in each)


def test_processor_and_memory_are_limited_to_what_is_asked_for():
    resources = CONTAINER["resources"]
    assert resources["limits"].keys() == {"cpu", "memory"}
    assert resources["requests"] == resources["limits"]
    assert JOB["spec"]["backoffLimitPerIndex"] < 10
    assert POD["activeDeadlineSeconds"] > 0


def test_the_image_is_named_and_nobody_is_taken_for_its_registry():
    assert CONTAINER["image"] == "registry.example.org/qmedsam:latest"


def test_exit_statuses_are_answered_once_each():
    """And the rules keep what the API server asks of them."""
    spec = JOB["spec"]
    assert spec["completionMode"] == "Indexed"  # of retries by index
    assert POD["restartPolicy"] == "Never"  # of a failure policy
    disruption, *by_status = spec["podFailurePolicy"]["rules"]
    assert disruption["action"] == "Ignore"
    assert disruption["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert {rule["onExitCodes"]["containerName"] for rule in by_status} == {CONTAINER["name"]}
    assert {rule["onExitCodes"]["operator"] for rule in by_status} == {"In"}
    assert {rule["action"]: rule["onExitCodes"]["values"] for rule in by_status} == {
        "FailIndex": [exit_status.SOME_FAILED],
        "FailJob": [exit_status.NOTHING_RAN],
    }


def test_each_index_runs_its_shard():
    count = JOB["spec"]["completions"]
    assert JOB["spec"]["parallelism"] <= count
    reports = set()
    for index in range(count):
        words, environment = started(JOB, index)
        assert words[:2] == ["sh", "predict.sh"]
        folders = ["-i", "inputs", "-o", environment["OUTPUT_DIR"]]
        arguments = build_parser().parse_args([*folders, *words[2:]])
        assert arguments.shard == Shard(index, count)
        assert arguments.resume
        reports.add(arguments.report)
    assert len(reports) == count


@pytest.mark.model
def test_the_pods_of_a_job_do_all_cases(cases, environment, tmp_path):
    job = copy.deepcopy(JOB)
    job["spec"]["completions"] = 2
    container_of(job)["env"][0]["value"] = "2"
    for index in range(2):
        words, variables = started(job, index)
        words = [word.replace(CONTAINER["workingDir"], str(tmp_path)) for word in words]
        output_dir = variables["OUTPUT_DIR"].replace(CONTAINER["workingDir"], str(tmp_path))
        assert '"${INPUT_DIR:-/workspace/inputs}"' in (ROOT / "predict.sh").read_text()
        own = {**variables, "INPUT_DIR": str(cases), "OUTPUT_DIR": output_dir}
        pod = subprocess.run(
            words, cwd=ROOT, env={**environment, **own}, capture_output=True, text=True
        )
        assert pod.returncode == 0, pod.stderr
    assert sorted(path.name for path in (tmp_path / "outputs" / "masks").iterdir()) == NAMES
    reports = read_reports(tmp_path / "outputs" / "reports")
    assert reports.keys() == {"0-of-2.json", "1-of-2.json"}
    assert done_cases(reports) == NAMES


def container_of(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["template"]["spec"]["containers"][0]


def started(job: dict[str, Any], index: int) -> tuple[list[str], dict[str, str]]:
    """Return the words and the variables of a pod, as the kubelet makes them."""
    container = container_of(job)
    variables = {each["name"]: each["value"] for each in container["env"]}
    variables["JOB_COMPLETION_INDEX"] = str(index)  # the Job's controller adds it
    words = [
        re.sub(r"\$\((\w+)\)", lambda match: variables[match[1]], word)
        for word in container["command"]
    ]
    return words, variables
