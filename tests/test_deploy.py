"""The files of deploy/cluster: manifests against the fields that they use, the Slurm scripts with stubs for what Slurm has."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy" / "cluster"
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
RAY = re.search(r"^ray==(.+)$", CONSTRAINTS, re.M)
GROUP = {"rayStartParams", "template"}
# Of KubeRay's v1 API, those that the manifests use.
CLUSTER_FIELDS = {"rayVersion", "authOptions", "enableInTreeAutoscaling", "headGroupSpec", "workerGroupSpecs"}
JOB_FIELDS = {"entrypoint", "runtimeEnvYAML", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit", "rayClusterSpec"}


def manifest(name: str) -> dict[str, Any]:
    """A file of deploy/cluster."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text())
    return found


def check_cluster(spec: dict[str, Any]) -> None:
    """Checks the specification of a RayCluster."""
    assert RAY is not None and spec["rayVersion"] == RAY.group(1)
    assert spec.keys() <= CLUSTER_FIELDS and spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"].keys() == GROUP and spec["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    (workers,) = spec["workerGroupSpecs"]
    assert workers.keys() == GROUP | {"groupName", "replicas", "minReplicas", "maxReplicas"}
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    for group in (spec["headGroupSpec"], workers):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert container.keys() <= {"name", "image", "resources", "volumeMounts"}
        assert container["resources"]["limits"] == container["resources"]["requests"]  # Ray counts the limits
        mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
        assert mounted == {volume["name"] for volume in pod.get("volumes", ())}
    assert spec["headGroupSpec"]["template"]["spec"]["volumes"], "the run directory must outlive the head"


def test_the_raycluster() -> None:
    found = manifest("raycluster.yaml")
    assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", "RayCluster")
    check_cluster(found["spec"])


def test_the_rayjob() -> None:
    found = manifest("rayjob.yaml")
    spec = found["spec"]
    assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", "RayJob") and spec.keys() == JOB_FIELDS
    check_cluster(spec["rayClusterSpec"])
    assert yaml.safe_load(spec["runtimeEnvYAML"]).keys() == {"working_dir"}
    (workers,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    processors = workers["replicas"] * int(workers["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    assert f"--workers {processors}" in spec["entrypoint"]
    for command in re.findall(r"python -m training ([^;']+)", spec["entrypoint"]):
        check_command(shlex.split(command))


def check_command(words: list[str]) -> None:
    """Checks that ``python -m training`` knows the options of a command."""
    from typer.main import get_command

    from training.cli import app

    command = get_command(app).commands[words[0]]  # type: ignore[attr-defined]
    command.make_context(words[0], [word.replace("$", "x") for word in words[1:]])


@pytest.mark.rllib
def test_the_launcher() -> None:
    """Against the schema that Ray checks it with."""
    import jsonschema
    import ray

    found = manifest("launcher.yaml")
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(found, schema)
    assert found["head_node_type"] in found["available_node_types"]
    assert "~/.ray/auth_token" in found["file_mounts"]
    assert "RAY_AUTH_MODE=token" in " ".join(found["setup_commands"])


STUB = """#!{python}
import json, os, signal, socket, sys, time
words = sys.argv[1:]
with open(os.environ["STUB_LOG"], "a") as log:
    log.write(json.dumps([os.path.basename(sys.argv[0]), words, os.environ.get("RAY_AUTH_TOKEN", ""), os.environ.get("RAY_AUTH_MODE", ""),
        os.environ.get("RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT", "")]) + "\\n")
if sys.argv[0].endswith("scontrol"):
    print("node1\\nnode2\\nnode3")
elif "hostname" in words:
    print("127.0.0.1 10.0.0.1")
elif "--head" in words:
    port = next(word for word in words if word.startswith("--port="))
    listener = socket.create_server(("127.0.0.1", int(port.removeprefix("--port="))))
    time.sleep(600)
elif "start" in words:
    time.sleep(600)
elif os.environ.get("STUB_WAITS"):
    def end(*_):
        time.sleep(0.5)
        os._exit(7)
    signal.signal(signal.SIGTERM, end)
    open(os.environ["STUB_WAITS"], "w").close()
    time.sleep(600)
else:
    sys.exit(int(os.environ.get("STUB_CODE", "0")))
"""


def test_the_commands_of_the_page_are_ones_that_there_are() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text().replace("\\\n", " ")
    commands = re.findall(r"python -m training (\w+ [^#\n`]*)", page)
    assert len(commands) >= 3
    for command in commands:
        check_command(shlex.split(command.replace("--address ...", "--address auto")))
    listed = set(re.findall(r"^\| `([\w.]+)` \|", page, re.M))
    assert listed == {path.name for path in DEPLOY.iterdir()}


@pytest.mark.slow
class TestSlurm:
    """The scripts, with `srun` and `scontrol` that write down what they are asked."""

    def start(self, tmp_path: Path, script: str, *options: str, **environment: str) -> subprocess.Popen[str]:
        """Runs a script on three nodes with four processors each."""
        from ray_cluster import free_port

        stubs, venv = tmp_path / "stubs", tmp_path / "venv" / "bin"
        for folder in (stubs, venv):
            folder.mkdir(parents=True, exist_ok=True)
        for name in ("srun", "scontrol"):
            (stubs / name).write_text(STUB.replace("{python}", sys.executable))
            (stubs / name).chmod(0o755)
        if not (venv / "python").exists():
            (venv / "python").symlink_to(sys.executable)
        (tmp_path / "calls").unlink(missing_ok=True)
        slurm = {"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "node[1-3]", "SLURM_CPUS_PER_TASK": "4", "RAY_PORT": str(free_port())}
        stub = {"PATH": f"{stubs}:/usr/bin:/bin", "VENV": str(venv.parent), "STUB_LOG": str(tmp_path / "calls"), "HOME": str(tmp_path)}
        command = ["bash", str(DEPLOY / script), str(tmp_path / "run"), *options]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=slurm | stub | environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True)

    def calls(self, tmp_path: Path) -> list[list[Any]]:
        """What the stubs were asked."""
        return [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]

    def search(self, tmp_path: Path) -> list[str]:
        """The command of the search, checked."""
        (words,) = [call[1] for call in self.calls(tmp_path) if "training" in call[1]]
        found: list[str] = words[words.index("training") + 1 :]
        check_command(found)
        return found

    @pytest.mark.parametrize("script", ["slurm.sh", "slurm_symmetric.sh"])
    def test_a_search_begins_and_goes_on(self, script: str, tmp_path: Path) -> None:
        """On all processors, with one token for all that is never on a command line; the exit code is the search's."""
        process = self.start(tmp_path, script, "--scenario", "iris-smoke", "--agent", "random", STUB_CODE="2")
        output = process.communicate(timeout=120)
        assert process.returncode == 2, output
        words = self.search(tmp_path)
        assert words[0] == "train" and words[-1] == "12" and "127.0.0.1:" in words[words.index("--address") + 1]
        tokens = {call[2] for call in self.calls(tmp_path) if call[0] == "srun"}
        assert len(tokens) == 1 and len(min(tokens)) == 64
        assert not any(min(tokens) in word for call in self.calls(tmp_path) for word in call[1])
        assert {call[3] for call in self.calls(tmp_path) if call[0] == "srun"} == {"token"}
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "run.json").touch()
        process = self.start(tmp_path, script)
        assert process.wait(timeout=120) == 0
        assert self.search(tmp_path)[:2] == ["resume", str(tmp_path / "run")]

    def test_the_head_comes_first_and_the_others_join_it(self, tmp_path: Path) -> None:
        self.start(tmp_path, "slurm.sh").wait(timeout=120)
        started = [" ".join(call[1]) for call in self.calls(tmp_path) if "start" in call[1]]
        assert "--nodelist=node1 ray start --head --node-ip-address=127.0.0.1" in started[0]
        assert len(started) == 2 and "--nodelist=node2,node3 ray start --address=127.0.0.1:" in started[1]

    def test_symmetric_run_waits_longer_than_by_default(self, tmp_path: Path) -> None:
        self.start(tmp_path, "slurm_symmetric.sh").wait(timeout=120)
        (call,) = [call for call in self.calls(tmp_path) if "symmetric-run" in call[1]]
        assert call[4] == "600" and call[1][call[1].index("--min-nodes") + 1] == "3" and call[1].index("--") < call[1].index("training")

    def test_the_end_of_the_time_reaches_the_search(self, tmp_path: Path) -> None:
        """Slurm's signal is handed on, and the script waits for what the search makes of it."""
        waits = tmp_path / "waits"
        process = self.start(tmp_path, "slurm.sh", STUB_WAITS=str(waits))
        deadline = time.monotonic() + 120
        while not waits.exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(timeout=120) == 7
