"""What `pip install .` puts in place: every module and data file of the tree, and nothing else."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = {"mooltiproxy": "mooltiproxy", "mappers": "mooltiproxy/mappers", "prompters": "mooltiproxy/prompters"}
DATA = (".py", ".jinja", ".lua", ".prompt", ".txt", ".typed")


def test_the_wheel_holds_the_whole_tree_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(
        ".git", ".venv", "build", "*.egg-info", "__pycache__", ".*_cache", "tests", "bench"
    )
    shutil.copytree(ROOT, source, ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        f"{inside_name}/{file.relative_to(source / folder).as_posix()}"
        for folder, inside_name in PACKAGES.items()
        for file in (source / folder).rglob("*")
        if file.suffix in DATA
    }
    assert inside == expected | {"mooltiproxy/root/config.template.yaml"}
