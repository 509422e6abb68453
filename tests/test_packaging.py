"""The built package: what it holds, and that it works away from the checkout."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

USE_INSTALLED = """
import sys
from pathlib import Path

import gymnasium
import qumos_env
from qumos_env.hardware.profile import list_profiles, load_profile
from qumos_env.scenario import list_scenarios

where = Path(qumos_env.__file__).resolve()
assert where.is_relative_to(sys.argv[1]), where
assert list_scenarios() == tuple(sys.argv[2:]), list_scenarios()
assert "ibm-heron" in list_profiles() and load_profile("ibm-heron").n_qubits == 156
env = gymnasium.make("qumos_env:qumos/IrisSmoke-v1")
observation, info = env.reset(seed=0)
assert observation in env.observation_space
"""


def call(*command: object, cwd: Path, **environment: str) -> str:
    """The output of a command, which must succeed; ``environment`` is added to a clean one."""
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=inherited | environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert result.returncode == 0, f"{' '.join(map(str, command))}\n{result.stdout}"
    return result.stdout


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def install(wheel: Path, target: Path) -> Path:
    call(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", target, wheel, cwd=target.parent)
    return target


def use(target: Path, package: Path, tmp_path: Path, *, before: str = "") -> None:
    """Makes an environment with the package installed in ``target``, and checks that it is imported from ``package``.

    Python runs without ``site``, so that no .pth file of the environment (an editable install of the checkout) is read:
    it sees ``target`` and the installed libraries only.
    """
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    script = elsewhere / "use.py"
    script.write_text(before + USE_INSTALLED)
    path = os.pathsep.join([str(target), *sorted(libraries)])
    call(sys.executable, "-S", script, package.resolve(), *scenario_names(), cwd=elsewhere, PYTHONPATH=path)


def scenario_names() -> list[str]:
    return sorted(path.stem for path in (ROOT / "scenarios").glob("*.toml"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout: builds write into the tree they build from."""
    copy = tmp_path_factory.mktemp("tree") / "qumos"
    ignored = shutil.ignore_patterns(".git", ".venv*", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build", "dist", "runs")
    shutil.copytree(ROOT, copy, ignore=ignored)
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path) -> Path:
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tree / "direct", cwd=tree)
    (built,) = (tree / "direct").glob("*.whl")
    return built


def test_setup_lists_every_package():
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg")
    listed = set(settings["options"]["packages"].split())
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "qumos_env").rglob("*.py")}
    assert listed == {".".join(folder.parts) for folder in folders} | {"qumos_env.scenarios"}


def test_wheel_holds_code_scenarios_and_profiles_only(wheel: Path):
    names = names_in(wheel)
    assert {name.split("/")[0] for name in names} == {"qumos_env", "qumos_env-0.1.0.dist-info"}
    assert {f"qumos_env/scenarios/{name}.toml" for name in scenario_names()} <= names
    profiles = {path.relative_to(ROOT).as_posix() for path in (ROOT / "qumos_env" / "hardware" / "profiles").glob("*.toml")}
    assert profiles and profiles <= names
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "qumos_env").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == code


def test_wheel_metadata(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read("qumos_env-0.1.0.dist-info/METADATA").decode()
        scripts = archive.read("qumos_env-0.1.0.dist-info/entry_points.txt").decode()
        assert archive.read("qumos_env-0.1.0.dist-info/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "Requires-Python: >=3.11" in metadata
    extras = {"rllib", "optuna", "pymoo", "compare", "serve", "data", "vendors", "test", "dev"}
    assert set(re.findall(r"^Provides-Extra: (.*)$", metadata, re.M)) == extras
    required = set(re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", metadata, re.M))
    assert "networkx" in required and "ray" not in required and not {name for name in required if name.startswith("cirq-")} - {"cirq-core"}
    assert "qumos = qumos_env.cli:main" in scripts


def test_wheel_works_elsewhere(wheel: Path, tmp_path: Path):
    target = install(wheel, tmp_path / "target")
    use(target, target, tmp_path)


def test_source_archive_builds_the_same_wheel(tree: Path, wheel: Path, tmp_path: Path):
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, cwd=tree)  # the wheel is built from the archive
    (rebuilt,) = tmp_path.glob("*.whl")
    assert names_in(rebuilt) == names_in(wheel)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert {"Makefile", "constraints.txt", "tests/test_packaging.py", "agents", "training"} <= names


def test_editable_install_finds_scenarios_beside_the_package(tree: Path, tmp_path: Path):
    build = f"import setuptools.build_meta as backend; backend.build_editable({str(tmp_path)!r})"
    call(sys.executable, "-c", build, cwd=tree)
    (editable,) = tmp_path.glob("*.whl")
    target = install(editable, tmp_path / "target")
    use(target, tree, tmp_path, before=f"import site\nsite.addsitedir({str(target)!r})\n")


def test_constraints_name_one_version_each_and_no_place():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin) for pin in pins)
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg")
    required = [settings["options"]["install_requires"], *settings["options.extras_require"].values()]
    needed = {normal(re.match(r"[\w-]+", line).group()) for text in required for line in text.split("\n") if line}
    assert needed <= {normal(pin.partition("==")[0]) for pin in pins}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
