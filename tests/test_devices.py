"""Several devices and several machines learn what one device learns."""

import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import shakespeare_text_generator_using_gru as program
from conftest import ROOT, SCRIPT, TOY_OPTIONS, newest, run, toy_text

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
CHANCE = "--dropout 0.3 --input-dropout 0.2 --hide-words 0.5 --activation-penalty 1"
OPTIONS = [*TOY_OPTIONS, *CHANCE.split(), "--patience=9"]
OPTIONS[OPTIONS.index("--epochs") + 1] = "3"

TWO_DEVICES = """
import sys
import numpy as np
import shakespeare_text_generator_using_gru as program

given = program.read_options(sys.argv[1:])
tokens = program.tokenize(open("toy.txt").read(), "words")
settings = program.choose_settings(given)
dataset = program.make_dataset(tokens, settings)
program.start_tensorflow()
tf = program.tf
(cpu,) = tf.config.list_physical_devices("CPU")
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
learnt = []
for strategy in [None, tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])]:
    tf.distribute.experimental_set_strategy(strategy)
    teacher = program.Network(dataset, program.replace(settings, seed=7))
    trainer = program.Trainer(dataset, settings, teacher=teacher)
    (_, row) = trainer.train()
    weights = [variable.numpy().ravel() for variable in trainer.network.weights]
    learnt.append(np.concatenate(weights))
    print(row["validation_perplexity"])
print(trainer.begin()[0].shape if hasattr(trainer.begin()[0], "shape") else "")
assert 0 < np.abs(learnt[0] - learnt[1]).max() < 1e-5
"""


def free_ports(count):
    """Ports on loopback that nobody listens to."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


def start_machines(folder, *options, texts=("toy.txt", "toy.txt"), roles=None):
    """Processes of the script that train together, the chief first."""
    roles = roles or [("worker", number) for number in range(len(texts))]
    cluster = {}
    for (role, _), port in zip(roles, free_ports(len(roles))):
        cluster.setdefault(role, []).append(f"localhost:{port}")
    machines = []
    for text, (role, number) in zip(texts, roles):
        task = {"type": role, "index": number}
        config = json.dumps({"cluster": cluster, "task": task})
        command = [sys.executable, str(SCRIPT), *OPTIONS, "--corpus", text, *options]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        environment = os.environ | {"TF_CONFIG": config}
        machines.append(subprocess.Popen(command, cwd=folder, env=environment, **pipes))
    return machines


def finish(machines):
    """The code, output and errors of each process once it has ended."""
    ends = []
    try:
        for machine in machines:
            output, errors = machine.communicate(timeout=120)
            ends.append((machine.returncode, output, errors))
    finally:
        for machine in machines:
            machine.kill()
    return ends


def learnt(folder):
    """All weights of the newest run's generator, one after the other."""
    generator, _ = program.load_generator(newest(folder) / "generator.keras")
    arrays = [generator.embedding, *sum(generator.cells, []), *generator.dense]
    return np.concatenate([array.ravel() for array in arrays])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What a run on one device has learnt."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "toy.txt").write_text(toy_text(), encoding="utf-8")
    finished = run(*OPTIONS, folder=folder)
    assert finished.returncode == 0, finished.stderr
    return learnt(folder)


@pytest.fixture
def folder(tmp_path):
    """A folder with a text."""
    (tmp_path / "toy.txt").write_text(toy_text(), encoding="utf-8")
    return tmp_path


def test_two_devices_learn_what_one_does(folder):
    command = [sys.executable, "-c", TWO_DEVICES, *OPTIONS, "--epochs=2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    finished = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr


def test_a_chief_and_a_worker_learn_what_one_machine_does(folder, alone):
    """Only the chief prints and writes; both end well."""
    roles = [("chief", 0), ("worker", 0)]
    chief, worker = finish(start_machines(folder, roles=roles))
    assert chief[0] == worker[0] == 0, chief[2] + worker[2]
    assert "Training on 2 machines" in chief[1]
    assert worker[1] == "" and worker[2].startswith("Waiting for 2 machines")
    assert len([*(folder / "runs").iterdir()]) == 1
    np.testing.assert_allclose(learnt(folder), alone, rtol=0, atol=1e-5)


@posix
def test_a_killed_worker_ends_all_and_the_same_command_resumes(folder, alone):
    """It may resume with another number of machines, here one."""
    chief, worker = start_machines(folder)
    for line in chief.stdout:
        if line.startswith("epoch: 1"):
            break
    worker.kill()
    (code, _, errors), _ = finish([chief, worker])
    waiting, line = errors.splitlines()
    assert code == 1 and "another machine" in line and "same command resumes" in line
    finished = run(*OPTIONS, folder=folder)
    assert "Resuming after epoch" in finished.stdout
    np.testing.assert_allclose(learnt(folder), alone, rtol=0, atol=1e-5)


@posix
def test_sigterm_on_one_machine_ends_all(folder):
    chief, worker = start_machines(folder, "--epochs=200", "--patience=200")
    for line in chief.stdout:
        if line.startswith("epoch: 1"):
            break
    worker.send_signal(signal.SIGTERM)
    ends = finish([chief, worker])
    assert [code for code, *_ in ends] == [143, 143], ends
    assert "Traceback" not in ends[0][2] + ends[1][2]


def test_machines_that_read_different_texts_are_told_so(folder):
    (folder / "other.txt").write_text(toy_text(601), encoding="utf-8")
    for code, _, errors in finish(
        start_machines(folder, texts=["toy.txt", "other.txt"])
    ):
        assert code == 2 and "the machines differ in text:" in errors


def test_machines_that_do_not_come_are_given_up(folder):
    code = (
        "import shakespeare_text_generator_using_gru as program\n"
        "program.SECONDS = 1\n"
        "program.start_tensorflow()\n"
        "program.set_strategy(2, 0, program.Settings())\n"
    )
    here, there = free_ports(2)
    cluster = {"worker": [f"localhost:{here}", f"localhost:{there}"]}
    config = {"cluster": cluster, "task": {"type": "worker", "index": 0}}
    environment = {"TF_CONFIG": json.dumps(config), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    finished = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment
    )
    assert finished.returncode == 1
    assert finished.stderr.startswith("Waiting for 2 machines; after 1 seconds")


TWO = {"worker": ["a:1", "b:1"]}


@pytest.mark.parametrize(
    "variables, machines",
    [
        ({}, (1, True)),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, (1, True)),
        ({"SLURM_STEP_NUM_TASKS": "3", "SLURM_PROCID": "0"}, (3, True)),
        ({"SLURM_STEP_NUM_TASKS": "3", "SLURM_PROCID": "2"}, (3, False)),
        ({"TF_CONFIG": "{}"}, (1, True)),
        ({"TF_CONFIG": {"cluster": TWO, "task": ["worker", 0]}}, (2, True)),
        ({"TF_CONFIG": {"cluster": TWO, "task": ["worker", 1]}}, (2, False)),
        ({"TF_CONFIG": {"cluster": TWO, "task": ["worker", "1"]}}, (2, False)),
        (
            {"TF_CONFIG": {"cluster": TWO | {"chief": ["c"]}, "task": ["worker", 0]}},
            (3, False),
        ),
        (
            {"TF_CONFIG": {"cluster": TWO | {"chief": ["c"]}, "task": ["chief", 0]}},
            (3, True),
        ),
        ({"TF_CONFIG": {"cluster": {"chief": ["c"]}, "task": ["chief", 0]}}, (1, True)),
    ],
)
def test_the_environment_says_how_many_machines_there_are(
    variables, machines, monkeypatch
):
    for name in ["TF_CONFIG", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"]:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        if isinstance(value, dict):
            task = dict(zip(["type", "index"], value["task"]))
            value = json.dumps(value | {"task": task})
        monkeypatch.setenv(name, value)
    assert program.find_machines() == machines


@pytest.mark.parametrize("config", ["", "{", "[]", "7", '{"cluster": {"worker": 2}}'])
def test_a_broken_tf_config_is_a_mistake_of_one_line(config, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(program.UserError, match="TF_CONFIG is not of the form"):
        program.find_machines()


@pytest.mark.parametrize(
    "num_gpus, batch_size, used",
    [(0, 64, 0), (1, 64, 1), (3, 64, 1), (2, 128, 2), (3, 128, 2), (3, 192, 3)],
)
def test_as_many_gpus_work_as_share_the_batch_and_pay(
    num_gpus, batch_size, used, monkeypatch
):
    program.start_tensorflow()
    devices, chosen = program.tf.distribute, []
    monkeypatch.setattr(devices, "MirroredStrategy", chosen.extend)
    monkeypatch.setattr(devices, "experimental_set_strategy", lambda _: None)
    settings = program.Settings(batch_size=batch_size)
    words = program.set_strategy(1, num_gpus, settings)
    assert words == (f"{used} of {num_gpus} GPUs" if num_gpus else "the CPU")
    assert len(chosen) == (used if used > 1 else 0)
