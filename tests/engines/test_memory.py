"""How much memory is free, and what a server's processes use."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mooltiproxy.engines import memory
from mooltiproxy.engines.memory import NvidiaSmi, free, free_ram, used, used_ram
from tests.servers.engines import BODY, engines, processes, toy_target
from tests.servers.proxy import proxy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing of it can be told elsewhere")
MIB = 1024 * 1024

SMI = '''#!{python} -IS
"""nvidia-smi as far as it is asked here: what the real one does not know, this one refuses in its words."""
import sys, time
from pathlib import Path

here = Path(__file__).parent
with open(here / "asked", "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
GPUS = ["timestamp", "driver_version", "count", "name", "gpu_name", "index", "uuid", "gpu_uuid", "pci.bus_id",
        "memory.total", "memory.reserved", "memory.used", "memory.free"]
APPS = ["timestamp", "gpu_name", "gpu_bus_id", "gpu_serial", "gpu_uuid", "pid", "process_name", "name",
        "used_gpu_memory", "used_memory"]
ANOTHER = dict(gpu_uuid="uuid", used_gpu_memory="used_memory")

def alive(*words):
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if "\\0".join(words).encode() in file.read_bytes():
                return True
        except OSError:
            continue
    return False

options = dict(option.partition("=")[::2] for option in sys.argv[1:])
formats = set(options.pop("--format", "").split(","))
if list(options) not in (["--query-gpu"], ["--query-compute-apps"]) or len(sys.argv) != 3:
    print("Invalid combination of input arguments. Please run 'nvidia-smi -h' for help.\\n")
    sys.exit(1)
if "csv" not in formats or not formats <= {{"csv", "noheader", "nounits"}}:
    print('Option "--format=" is not recognized. Please run \\'nvidia-smi -h\\'.\\n')
    sys.exit(2)
(query, written), = options.items()
fields = written.split(",")
for field in fields:
    if field not in (GPUS if query == "--query-gpu" else APPS):
        print(f'Field "{{field}}" is not a valid field to query.\\n')
        sys.exit(2)
rows = {rows}
if rows is None:
    print("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")
    sys.exit(9)
time.sleep({delay})
if "noheader" not in formats:
    print(", ".join(fields))
for row in rows[query]:
    print(", ".join(row[field] + (" MiB" if row[field].isdigit() and "memory" in field and "nounits" not in formats
                                  else "") for field in fields))
'''


def smi(folder: Path, rows: object, delay: float = 0.0) -> None:
    """An nvidia-smi in this folder that lists these rows, or those that a Python expression says."""
    file = folder / "nvidia-smi"
    file.write_text(SMI.format(python=sys.executable, rows=rows, delay=delay))
    file.chmod(0o755)


def asked(folder: Path) -> int:
    """How often it was asked."""
    return len((folder / "asked").read_text().splitlines())


def gpus(*free: str) -> list[dict[str, str]]:
    return [{"index": str(index), "uuid": f"GPU-{index}", "memory.free": left} for index, left in enumerate(free)]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, and nothing known of nvidia-smi."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(memory, "_nvidia", NvidiaSmi())
    return tmp_path


@contextmanager
def running(code: str) -> Iterator[int]:
    """A process in a session of its own that runs this, until all its processes are ready: their lines say so."""
    code = f"import os, sys, time\nsys.stdout.reconfigure(line_buffering=True)\n{code}"
    pipe = subprocess.PIPE
    command = [sys.executable, "-IS", "-c", code]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as process:
        assert process.stdin is not None and process.stdout is not None
        for _ in range(code.count("print(")):
            assert process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.stdin.close()  # what the code waits for


def eventually(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def available() -> int:
    match = re.search(r"MemAvailable: +(\d+)", Path("/proc/meminfo").read_text())
    assert match is not None
    return int(match[1]) * 1024


UNTIL_THE_END = "sys.stdin.read()"


async def test_what_is_free_is_no_more_than_the_kernel_says() -> None:
    ram = (await free())["ram"]
    assert 0 < ram <= available() + 512 * MIB


@pytest.mark.parametrize(
    ("line", "files", "left"),
    [
        ("0::/a/b", {"a/b/memory.max": "max", "a/b/memory.current": "9", "a/memory.max": "5000"}, 10 * 1024),
        ("0::/a/b", {"a/b/memory.max": "7000", "a/b/memory.current": "3000"}, 4000),
        ("0::/a/b", {"a/memory.max": "7000", "a/memory.current": "3000", "memory.max": "max"}, 4000),
        (
            "0::/",
            {"memory.max": "7000", "memory.current": "6000", "memory.stat": "anon 9\nactive_file 1\ninactive_file 2"},
            1003,
        ),
        ("0::/", {"memory.max": "7000", "memory.current": "8000"}, 0),
        (
            "4:cpu,memory:/x\n0::/",
            {
                "memory/memory.limit_in_bytes": "7000",
                "memory/memory.usage_in_bytes": "6000",
                "memory/memory.stat": "inactive_file 900\ntotal_inactive_file 10\ntotal_active_file 20",
            },
            1030,
        ),
        ("4:cpu:/", {"memory.max": "1", "memory.current": "1"}, 10 * 1024),
        ("", {}, 10 * 1024),
    ],
)
def test_a_control_group_s_limit_bounds_what_is_free(
    tmp_path: Path, line: str, files: dict[str, str], left: int
) -> None:
    for name, text in {
        "proc/meminfo": "MemTotal: 99 kB\nMemAvailable:      10 kB\n",
        "proc/self/cgroup": f"{line}\n" if line else "",
        **{f"groups/{name}": f"{text}\n" for name, text in files.items()},
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert free_ram(tmp_path / "proc", tmp_path / "groups") == left


async def test_a_server_uses_what_its_session_and_its_descendants_use(path: Path) -> None:
    code = f"""
held = b"x" * {32 * MIB}
if not os.fork():
    held += b"y" * {16 * MIB}
    os.setsid()
    print("the child has a session of its own")
else:
    print("so has the parent")
{UNTIL_THE_END}
"""
    with running(code) as pid:
        ram = (await used(pid))["ram"]
        assert len(used_ram(pid)) == 2
    assert 80 * MIB <= ram < 110 * MIB


async def test_what_processes_share_counts_once(path: Path) -> None:
    code = f"held = b'x' * {64 * MIB}\nos.fork() and os.fork()\nprint('one')\n{UNTIL_THE_END}"
    with running(code) as pid:
        eventually(lambda: len(used_ram(pid)) == 3)
        assert 64 * MIB <= (await used(pid))["ram"] < 100 * MIB


async def test_a_server_whose_parent_in_the_session_has_ended_is_found(path: Path) -> None:
    with running(f"if os.fork():\n    time.sleep(0.1)\n    os._exit(0)\nprint('child')\n{UNTIL_THE_END}") as pid:
        eventually(lambda: not used_ram(pid).get(pid))
        assert sum(size > 0 for size in used_ram(pid).values()) == 1


async def test_a_process_that_is_gone_uses_nothing(path: Path) -> None:
    with running("print('ready')") as pid:
        pass
    assert await used(pid) == {}
    assert await used(0) == {}


async def test_without_nvidia_smi_nothing_is_told_of_gpus(path: Path) -> None:
    assert set(await free()) == {"ram"}
    assert set(await used(os.getpid())) == {"ram"}


async def test_gpus_are_told_one_by_one_and_all_together(path: Path) -> None:
    smi(path, {"--query-gpu": gpus("1000", "24000")})
    found = await free()
    del found["ram"]
    assert found == {"gpu": 25000 * MIB, "gpu0": 1000 * MIB, "gpu1": 24000 * MIB}


async def test_a_gpu_that_does_not_tell_is_left_out_and_so_is_the_sum(path: Path) -> None:
    smi(path, {"--query-gpu": gpus("[N/A]", "24000")})
    found = await free()
    del found["ram"]
    assert found == {"gpu1": 24000 * MIB}


async def test_a_server_uses_of_a_gpu_what_its_processes_use(path: Path) -> None:
    with running(f"os.fork()\nprint('one of two')\n{UNTIL_THE_END}") as pid:
        eventually(lambda: len(used_ram(pid)) == 2)
        child = max(used_ram(pid))
        others = [("GPU-0", "1", "9000"), ("GPU-1", str(pid), "300"), ("GPU-1", str(child), "20")]
        apps = [dict(zip(("gpu_uuid", "pid", "used_memory"), row, strict=True)) for row in others]
        smi(path, {"--query-gpu": gpus("1", "2"), "--query-compute-apps": apps})
        found = await used(pid)
    del found["ram"]
    assert found == {"gpu": 320 * MIB, "gpu0": 0, "gpu1": 320 * MIB}


@pytest.mark.parametrize("row", [("GPU-0", "1", "9000"), ("GPU-0", "{pid}", "[N/A]"), ("MIG-1", "{pid}", "5")])
async def test_where_a_server_s_share_of_a_gpu_is_not_listed_nothing_is_told_of_it(
    path: Path, row: tuple[str, str, str]
) -> None:
    gpu, pid, megabytes = row
    app = {"gpu_uuid": gpu, "pid": pid.format(pid=os.getpid()), "used_memory": megabytes}
    smi(path, {"--query-gpu": gpus("1"), "--query-compute-apps": [app]})
    assert set(await used(os.getpid())) == {"ram"}


async def test_an_nvidia_smi_that_fails_is_not_asked_again(path: Path) -> None:
    smi(path, None)
    for _ in range(3):
        assert set(await free()) == {"ram"}
    assert asked(path) == 1


async def test_an_nvidia_smi_that_hangs_is_killed_and_not_asked_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_nvidia", NvidiaSmi(patience=0.3))
    smi(path, {"--query-gpu": []}, delay=60)
    began = time.monotonic()
    for _ in range(3):
        assert set(await free()) == {"ram"}
    assert time.monotonic() - began < 2
    assert asked(path) == 1


async def test_an_nvidia_smi_that_cannot_be_run_is_as_good_as_none(path: Path) -> None:
    (path / "nvidia-smi").write_text("#!/no/such/interpreter\n")
    (path / "nvidia-smi").chmod(0o755)
    assert set(await free()) == {"ram"}


async def test_it_is_asked_again_once_it_may_have_come_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "FORGIVEN_AFTER", 0.0)
    assert set(await free()) == {"ram"}
    smi(path, {"--query-gpu": gpus("5")})
    assert (await free())["gpu0"] == 5 * MIB


async def test_the_next_server_of_a_group_starts_once_the_gpu_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(memory, "_nvidia", NvidiaSmi())
    monkeypatch.setattr("mooltiproxy.engines.owner.ROOM_POLL", 0.02)
    free = {"index": "0", "uuid": "GPU-0", "memory.free": "FREE"}
    rows = repr({"--query-gpu": [free], "--query-compute-apps": []})
    seconds = f"0.3{os.getpid():08}1"  # tells the processes of this test from all others
    busy = f"alive('holder.py', '7', '{seconds}') or len((here / 'asked').read_text().splitlines()) < 4"
    smi(tmp_path, rows.replace("'FREE'", f"'100' if {busy} else '1000'"))
    first = toy_target("--hold", "7", "--hold-after", seconds, group="gpu")
    second = toy_target(log=tmp_path / "second.jsonl", group="gpu", memory={"gpu": "500MiB"})
    async with proxy(engines(first=first, second=second), tmp_path) as running:
        for target in ("first", "second"):
            async with running.client.post("/generate", json=BODY, headers={"target": target}) as response:
                assert response.status == 200, await response.text()
            held = [list(processes(part)) for part in (f"holder.py\x007\x00{seconds}", f"--hold-after\x00{seconds}")]
            assert [bool(pids) for pids in held] == [target == "first"] * 2
    assert asked(tmp_path) > 3
