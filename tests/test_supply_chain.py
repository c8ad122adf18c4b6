"""What comes with `pip install .`: the packages that are locked, few and small, with nothing that runs unasked."""

import re
from collections.abc import Iterable, Iterator
from configparser import ConfigParser
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
BASE = ROOT / "requirements.txt"
IMAGE = ROOT / "deploy" / "requirements.txt"
PACKAGES = 20
"""The most that a base install may consist of, the proxy included."""
MEGABYTES = 60
"""The most room that they may take, compiled files included."""


def setup_cfg(section: str, option: str) -> list[Requirement]:
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return [Requirement(line) for line in parser[section][option].split("\n") if line]


def locked(file: Path) -> dict[str, tuple[Requirement, list[str]]]:
    """Each requirement of a lock file with its hashes, by name."""
    lines = [line for line in file.read_text().replace("\\\n", " ").splitlines() if not line.startswith("#")]
    found: dict[str, tuple[Requirement, list[str]]] = {}
    for line in lines:
        requirement, *hashes = re.split(r"\s+--hash=", line.strip())
        parsed = Requirement(requirement)
        found[canonicalize_name(parsed.name)] = (parsed, hashes)
    return found


def here(requirements: Iterable[Requirement]) -> Iterator[Requirement]:
    """Those that this system and Python need."""
    return (one for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""}))


def closure(requirements: Iterable[Requirement]) -> dict[str, Distribution]:
    """These packages and all that they need, as they are installed here."""
    found: dict[str, Distribution] = {}
    waiting = list(here(requirements))
    while waiting:
        name = canonicalize_name(waiting.pop().name)
        if name not in found:
            found[name] = distribution(name)
            waiting += here(map(Requirement, found[name].requires or ()))
    return found


@pytest.fixture(scope="module")
def base() -> dict[str, Distribution]:
    """What `pip install .` brings along."""
    return closure(setup_cfg("options", "install_requires"))


@pytest.mark.parametrize("file", [BASE, IMAGE], ids=["base", "image"])
def test_every_locked_package_has_one_version_and_hashes(file: Path) -> None:
    assert locked(file)
    for name, (requirement, hashes) in locked(file).items():
        (version,) = requirement.specifier
        assert version.operator == "==", name
        assert hashes and all(re.fullmatch("sha256:[0-9a-f]{64}", one) for one in hashes), name


@pytest.mark.parametrize("file", [BASE, IMAGE], ids=["base", "image"])
def test_a_lock_file_says_nothing_of_where_packages_are_fetched(file: Path) -> None:
    options = re.findall(r"--(?!hash=)\S+|\w+://\S+|^-.*", file.read_text(), re.MULTILINE)
    assert options == []


@pytest.mark.parametrize(
    ("file", "extras"), [(BASE, []), (IMAGE, ["redis"])], ids=["the base install", "the container image"]
)
def test_the_locked_packages_are_those_of_setup_cfg_and_what_they_need(
    file: Path, extras: list[str], base: dict[str, Distribution]
) -> None:
    wanted = setup_cfg("options", "install_requires")
    wanted += [one for extra in extras for one in setup_cfg("options.extras_require", extra)]
    versions = {name: str(requirement.specifier).removeprefix("==") for name, (requirement, _) in locked(file).items()}
    for requirement in wanted:
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement
    needed_here = {canonicalize_name(one.name) for one in here(one for one, _ in locked(file).values())}
    assert needed_here == closure(wanted).keys()


def test_the_image_has_the_versions_of_the_base_install() -> None:
    image = locked(IMAGE)
    assert {name: str(one) for name, (one, _) in locked(BASE).items()}.items() <= {
        name: str(one) for name, (one, _) in image.items()
    }.items()


def test_a_base_install_is_of_few_packages(base: dict[str, Distribution]) -> None:
    assert len(base) + 1 <= PACKAGES


def test_a_base_install_is_small(base: dict[str, Distribution]) -> None:
    ours = [file for name in ("mooltiproxy", "mappers", "prompters") for file in (ROOT / name).rglob("*")]
    theirs = [Path(str(file.locate())) for one in base.values() for file in one.files or ()]
    size = sum(file.stat().st_size for file in (*ours, *theirs) if file.is_file())
    assert 20_000_000 < size < MEGABYTES * 1_000_000


def test_no_package_of_a_base_install_runs_code_at_every_start_of_python(base: dict[str, Distribution]) -> None:
    files = [file.name for one in base.values() for file in one.files or ()]
    assert [name for name in files if name.endswith(".pth") or name in ("sitecustomize.py", "usercustomize.py")] == []
