import os
import subprocess
import sys
from pathlib import Path

import pytest

from mooltiproxy.cli import main
from tests.importers.importing import FILES

ROOT = Path(__file__).parent.parent.parent


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command as a process."""
    command = [sys.executable, "-m", "mooltiproxy", *arguments]
    return subprocess.run(command, env={**os.environ, **environ}, cwd=ROOT, capture_output=True, text=True, timeout=30)


def test_what_is_printed_passes_the_check(tmp_path: Path) -> None:
    done = run("import", str(FILES / "tabby"))
    ours = tmp_path / "config.yaml"
    ours.write_text(done.stdout)
    checked = run("check", str(ours), MOOLTIPROXY_KEY="a-key", TABBY_API_KEY="b-key", TABBY_ADMIN_KEY="c-key")
    assert (done.returncode, checked.returncode, checked.stdout) == (0, 0, f"{ours}: ok\n")


def test_what_to_do_next_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(FILES / "tabby")]) == 0
    out, err = capsys.readouterr()
    assert "# To be set in the environment:" in out
    assert err.splitlines() == [
        "18 keys, 7 not carried: they are listed at the end",
        "to be set in the environment: MOOLTIPROXY_KEY, TABBY_API_KEY, TABBY_ADMIN_KEY",
    ]


def test_a_file_of_no_known_program_is_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text("services: {}\n")
    assert main(["import", str(file)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{file}: this is a configuration of none of the programs that are known here: LiteLLM")


def test_a_file_that_is_not_there_is_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(tmp_path / "none.yaml")]) == 1
    assert capsys.readouterr().err == f"{tmp_path}/none.yaml: cannot be read: No such file or directory\n"


def test_a_file_must_be_named() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["import"])
    assert caught.value.code == 2
