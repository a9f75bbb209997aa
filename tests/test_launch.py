"""The scripts that start a config on several hosts; two processes stop and go on."""

import json
import os
import pathlib
import re
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest
import yaml
from etils import epath

from mtpret_jax.experiment import locks
from mtpret_jax.training import preemption

REPOSITORY = pathlib.Path(__file__).parents[1]
LAUNCH = REPOSITORY / "docs" / "launch"
CONFIG = """
import importlib.util
spec = importlib.util.spec_from_file_location("tiny", {tiny!r})
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)

def get_config():
    config = tiny.get_config("demo")
    with config.unlocked():
        for table, kept in (("runs", "contrastive"), ("datasets", "head")):
            for name in list(config[table]):
                if name != kept:
                    del config[table][name]
        for name in list(config.tasks):
            del config.tasks[name]
    run = config.runs.contrastive
    run.contrastive.datasets = {{"head": 1.0}}
    # Only a stop ends or saves it.
    run.update(steps=1_000_000, checkpoint_every=1_000_000, log_every=1)
    run.monitor.every = 0
    return config
"""
# Starts two tasks, as srun does on one node, and gives what JAX reads.
SRUN = """#!{python}
import os, subprocess, sys
words = sys.argv[1:]
while words[0].startswith("--"):
    words.pop(0)
tasks = []
for index in range(2):
    told = {{"SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_STEP_NUM_NODES": "1",
            "SLURM_NTASKS": "2", "SLURM_PROCID": str(index),
            "SLURM_LOCALID": str(index)}}
    with open(f"{folder}/{{index}}.log", "ab") as log:
        tasks.append(subprocess.Popen(
            words, env=os.environ | told, stdout=log, stderr=log))
with open("{folder}/tasks.new", "w") as file:
    file.write(" ".join(str(task.pid) for task in tasks))
os.replace("{folder}/tasks.new", "{folder}/tasks")
sys.exit(max(task.wait() % 256 for task in tasks))
"""
SCONTROL = """#!/bin/sh
echo "$@" >> {folder}/scontrol
"""


def free_job() -> int:
    """The number of a job whose port, as JAX chooses it, nobody uses."""
    for job in range(4096):
        with socket.socket() as listener:
            if listener.connect_ex(("127.0.0.1", 61440 + job)):
                return job
    raise OSError("No port between 61440 and 65535 is free.")


class Job:
    """A job of the script, with an srun that stays on this machine."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.workdir = folder, folder / "work"
        self.run = self.workdir / "runs" / "contrastive"
        self._process = None
        commands = folder / "commands"
        commands.mkdir()
        texts = {"srun": SRUN, "scontrol": SCONTROL}
        for name, text in texts.items():
            (commands / name).write_text(
                text.format(python=sys.executable, folder=folder)
            )
            (commands / name).chmod(stat.S_IRWXU)
        self._config = folder / "config.py"
        tiny = str(REPOSITORY / "configs" / "tiny.py")
        self._config.write_text(CONFIG.format(tiny=tiny))

    def start(self) -> str:
        """Submits the job; gives back its number."""
        (self.folder / "tasks").unlink(missing_ok=True)
        job = str(free_job())
        environment = os.environ | {
            "PATH": f"{self.folder / 'commands'}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "SLURM_JOB_ID": job,
            "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
        }
        self._process = subprocess.Popen(
            [
                "bash",
                str(LAUNCH / "slurm.sh"),
                f"--config={self._config}",
                f"--workdir={self.workdir}",
                f"--data_dir={self.folder / 'data'}",
            ],
            env=environment,
            cwd=REPOSITORY,
        )
        return job

    def stop(self, *tasks: int, after: int) -> None:
        """Sends SIGTERM to some tasks, once there are so many lines of steps."""
        path = self.run / "metrics.jsonl"
        deadline = time.monotonic() + 300
        while not path.exists() or path.read_text().count("\n") < after:
            assert self._process.poll() is None, self.log(0)[-3000:]
            assert time.monotonic() < deadline, self.log(0)[-3000:]
            time.sleep(0.02)
        pids = (self.folder / "tasks").read_text().split()
        for task in tasks:
            os.kill(int(pids[task]), signal.SIGTERM)
        assert self._process.wait(timeout=120) == 75, self.log(0)[-3000:]

    def log(self, task: int) -> str:
        path = self.folder / f"{task}.log"
        return path.read_text() if path.exists() else ""

    def stopped_at(self, task: int) -> list[int]:
        """The steps at which a task said that it stopped."""
        found = re.findall(r"^Stopped\. Step (\d+) of run", self.log(task), re.M)
        return [int(step) for step in found]

    def saved(self) -> list[int]:
        names = (path.name for path in (self.run / "checkpoints").iterdir())
        return sorted(int(name) for name in names if name.isdecimal())

    def kill(self) -> None:
        """Leaves nothing behind where a test failed."""
        if self._process.poll() is None:
            for pid in (self.folder / "tasks").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
            self._process.wait(timeout=60)


@pytest.fixture
def job(tmp_path):
    job = Job(tmp_path)
    yield job
    job.kill()


@pytest.mark.slow
def test_two_processes_stop_at_the_same_step_and_go_on(job):
    number = job.start()
    job.stop(1, after=2)  # One of them is told, as where a pod is evicted.

    (first,) = job.stopped_at(0)
    assert job.stopped_at(1) == [first]
    assert job.saved() == [first]
    assert (job.folder / "scontrol").read_text() == f"requeue {number}\n"

    job.start()
    job.stop(0, 1, after=first + 2)  # All of them are told, as Slurm does.

    assert f"resumes from step {first}." in job.log(1)
    assert not locks.is_held(epath.Path(job.run))
    _, second = job.stopped_at(0)
    assert job.stopped_at(1) == [first, second]
    assert job.saved() == [first, second]  # The two newest.
    lines = (job.run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [*range(1, second + 1)]


# What the test above starts the command with.
FLAGS = {"--config", "--workdir", "--data_dir", "--distributed"}


@pytest.mark.parametrize("name", ["slurm.sh", "tpu_pod.sh"])
def test_bash_reads_the_script(name):
    subprocess.run(["bash", "-n", str(LAUNCH / name)], check=True)

    assert os.access(LAUNCH / name, os.X_OK)


def test_every_host_of_a_pod_gets_the_command_as_it_was_given(tmp_path):
    """In place of gcloud, a bash runs what the hosts' would."""
    gcloud = tmp_path / "gcloud"
    gcloud.write_text(
        '#!/bin/bash\nprintf "%s\\n" "${@:1:$#-1}"\n'
        'last="${!#}"\nexec bash -c "${last#--command=}"\n'
    )
    gcloud.chmod(stat.S_IRWXU)
    python = tmp_path / "a b" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/bash\nprintf "%s\\n" "$PWD" "$@"\n')
    python.chmod(stat.S_IRWXU)
    given = ["--config=configs/mini.py:/x rays/$HOME", "--workdir=/w;'d\"", "--quiet"]
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "TPU": "slice",
        "ZONE": "zone",
        "FOLDER": "a b",
    }

    done = subprocess.run(
        ["bash", str(LAUNCH / "tpu_pod.sh"), *given],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines() == [
        *["compute", "tpus", "tpu-vm", "ssh", "slice", "--zone=zone", "--worker=all"],
        str(tmp_path / "a b"),
        *["-m", "mtpret_jax.main", "--distributed"],
        *given,
    ]


def test_the_parts_of_the_kubernetes_job_fit_each_other():
    text = (LAUNCH / "kubernetes.yaml").read_text()
    parts = {part["kind"]: part for part in yaml.safe_load_all(text)}

    job, pod = parts["Job"], parts["Job"]["spec"]["template"]["spec"]
    # What JAX's detection asks for.
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["completions"] == job["spec"]["parallelism"]
    assert parts["Service"]["spec"]["clusterIP"] == "None"
    assert parts["Service"]["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert pod["subdomain"] == parts["Service"]["metadata"]["name"]
    assert pod["serviceAccountName"] == parts["ServiceAccount"]["metadata"]["name"]
    assert pod["serviceAccountName"] == parts["RoleBinding"]["subjects"][0]["name"]
    assert parts["RoleBinding"]["roleRef"]["name"] == parts["Role"]["metadata"]["name"]
    readable = {name for rule in parts["Role"]["rules"] for name in rule["resources"]}
    assert readable == {"pods", "services", "jobs"}
    (container,) = pod["containers"]
    rules = job["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["onExitCodes"]["values"] == [preemption.EXIT_CODE]
    assert rules[0]["onExitCodes"]["containerName"] == container["name"]
    assert container["command"][:3] == ["python", "-m", "mtpret_jax.main"]
    given = {word.partition("=")[0] for word in container["command"][3:]}
    assert given == FLAGS


def test_the_page_names_flags_that_exist():
    texts = [(REPOSITORY / "docs" / "multi_host.md").read_text()]
    texts += [path.read_text() for path in LAUNCH.glob("*.sh")]
    commands = re.findall(
        r"mtpret_jax\.main(?:[^\n`]|\\\n)*|launch/\S+\.sh(?:[^\n`]|\\\n)*",
        "\n".join(texts),
    )
    used = {word for text in commands for word in re.findall(r"--\w+", text)}

    assert used >= FLAGS
    files = (REPOSITORY / "mtpret_jax").rglob("*.py")
    known = "".join(path.read_text() for path in files)
    unknown = {word for word in used if f'"{word}"' not in known}
    assert unknown <= {"--config", "--command", "--zone", "--worker"}
