"""A Ray cluster that cannot be joined: one clear line, soon."""

from __future__ import annotations

import shutil
import socket
import sys
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from ray_cluster import free_port, head

from agents import ray_address
from agents.pool.source import digest_of, source
from agents.ray_address import check_cluster
from qumos_env.cli import run as run_app
from qumos_env.errors import QumosError
from training.cli import app

pytestmark = pytest.mark.rllib
ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("address", "message"),
    [("ray://10.0.0.1:10001", "Ray Client"), ("head", "not host:port"), ("head:70000", "not host:port"), (":6379", "not host:port")],
)
def test_what_is_no_address(address: str, message: str) -> None:
    with pytest.raises(QumosError, match=message):
        check_cluster(address)


@pytest.mark.parametrize("option", [True, False])
def test_nobody_answers(option: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by RAY_ADDRESS; nothing is written."""
    address = f"127.0.0.1:{free_port()}"
    options = ["--address", address] if option else []
    if not option:
        monkeypatch.setenv("RAY_ADDRESS", address)
    assert run_app(app, ["train", "-s", "iris-smoke", "-a", "random", "--budget", "2", "--out", str(tmp_path / "run"), *options]) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error")]
    assert address in line and "nobody answers there" in line
    assert not (tmp_path / "run").exists()


def test_a_listener_that_is_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection and says nothing; Ray itself would wait for 40 seconds."""
    monkeypatch.setattr(ray_address, "ANSWER_SECONDS", 1.0)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with closing(socket.create_server(("127.0.0.1", 0))) as listener, pytest.raises(QumosError, match=r"none within 1 s; what listens"):
        check_cluster(f"127.0.0.1:{listener.getsockname()[1]}")


def answering(monkeypatch: pytest.MonkeyPatch, **found: str) -> Callable[[], None]:
    """A cluster that says so of itself."""
    monkeypatch.setattr(ray_address, "_asked", lambda _: found)
    return lambda: check_cluster("auto")


def test_other_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    python = ".".join(map(str, sys.version_info[:3]))
    answering(monkeypatch, ray_version=ray.__version__, python_version=python)()
    with pytest.raises(QumosError, match=r"Ray 2\.40\.0 there, .* here"):
        answering(monkeypatch, ray_version="2.40.0", python_version=python)()
    with pytest.raises(QumosError, match=r"Python 3\.9\.1 there, .* here"):
        answering(monkeypatch, ray_version=ray.__version__, python_version="3.9.1")()
    with pytest.raises(QumosError, match="Ray unknown there"):
        answering(monkeypatch)()


def test_a_token_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ray itself aborts the process."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    with pytest.raises(QumosError, match="RAY_AUTH_MODE is token and there is none"):
        check_cluster("auto")


def test_without_ray_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "agents.ray_session", raising=False)
    options = ["--budget", "2", "--out", str(tmp_path / "run"), "--address", "127.0.0.1:6379"]
    assert run_app(app, ["train", "-s", "iris-smoke", "-a", "random", *options]) == 2
    assert "pip install 'qumos-env[rllib]'" in capfd.readouterr().err


@pytest.mark.slow
def test_a_cluster_with_a_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The right one is let in; another one and none are refused in one line that says what to do."""
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("0123456789abcdef" * 2)
    wrong.write_text("fedcba9876543210" * 2)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    with head(1, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(right)}) as node:
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(right))
        check_cluster(node.address)
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(wrong))
        with pytest.raises(QumosError, match=r"the token is not the cluster's; .*RAY_AUTH_TOKEN_PATH"):
            check_cluster(node.address)
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
        with pytest.raises(QumosError, match=r"it wants a token, and none is sent; .*RAY_AUTH_MODE=token"):
            check_cluster(node.address)


def test_the_package_holds_what_workers_need_and_little_else(tmp_path: Path) -> None:
    """As Ray makes it, from .gitignore and .rayignore."""
    from ray._private.runtime_env.packaging import create_package

    create_package(str(ROOT), tmp_path / "package.zip", include_gitignore=True)
    assert (tmp_path / "package.zip").stat().st_size < 5e6
    held = set(zipfile.ZipFile(tmp_path / "package.zip").namelist())
    folders = ("agents", "qumos_env", "scenarios", "training")
    needed = {path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix != ".pyc"}
    needed = {name for name in needed if (ROOT / name).is_file()}
    assert len(needed) > 150 and needed <= held
    assert not [name for name in held if name.startswith(("tests/", "docs/", "benchmarks/", "runs/", ".git/", ".venv"))]


def test_the_digest_knows_every_change(tmp_path: Path) -> None:
    """Of content, of a name, and of a device profile; not of what is no source."""
    folder = tmp_path / "qumos_env"
    shutil.copytree(ROOT / "qumos_env" / "hardware", folder, ignore=shutil.ignore_patterns("__pycache__"))
    first = digest_of(folder)
    (folder / "notes.txt").write_text("no source")
    assert digest_of(folder) == first
    module = folder / "profile.py"
    text = module.read_text()
    module.write_text(text + "\n")
    changed = digest_of(folder)
    module.rename(folder / "profiles.py")
    renamed = digest_of(folder)
    (folder / "profiles.py").rename(module)
    module.write_text(text)
    assert digest_of(folder) == first and len({first, changed, renamed}) == 3
    next((folder / "profiles").glob("*.toml")).unlink()
    assert digest_of(folder) != first
    assert source().digest[:12] in str(source()) and source().version in str(source())
