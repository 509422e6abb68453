"""The evaluation cache, and files and folders that nobody sees half of."""

import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest

from qumos_env.errors import QumosError, one_line, unknown
from qumos_env.evaluation.cache import EvaluationCache
from qumos_env.files import new_folder, write_text

ROOT = Path(__file__).resolve().parent.parent


def test_memory_cache_is_private_to_its_object() -> None:
    """Without a path nothing is shared and nothing is written."""
    cache, other = EvaluationCache(), EvaluationCache()
    assert cache.get("key") is None
    cache.put("key", "value")
    assert cache.get("key") == "value"
    assert other.get("key") is None


def test_file_cache_is_shared_and_keeps(tmp_path: Path) -> None:
    """Another object on the same file sees what was put; folders are made."""
    path = tmp_path / "deep" / "cache.sqlite"
    EvaluationCache(path).put("key", "välue")
    assert EvaluationCache(str(path)).get("key") == "välue"
    assert EvaluationCache(path).get("other") is None


WRITE = """
import sys
from qumos_env.evaluation.cache import EvaluationCache
cache = EvaluationCache(sys.argv[1])
for number in range(5):
    cache.put(f"{sys.argv[2]}-{number}", f"value {number}")
    cache.put(f"common-{number}", f"value {number}")
"""


def test_processes_write_the_same_file_at_once(tmp_path: Path) -> None:
    """Workers of a search share one file."""
    path = tmp_path / "cache.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", WRITE, str(path), name], cwd=ROOT) for name in ("a", "b")]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    cache = EvaluationCache(path)
    for name in ("a", "b", "common"):
        assert [cache.get(f"{name}-{number}") for number in range(5)] == [f"value {number}" for number in range(5)]


def test_a_relative_path_survives_a_change_of_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's working directory changes."""
    monkeypatch.chdir(tmp_path)
    cache = EvaluationCache("cache.sqlite")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    cache.put("key", "value")
    assert EvaluationCache(tmp_path / "cache.sqlite").get("key") == "value"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_cache_pickles(tmp_path: Path) -> None:
    """It travels with its evaluator to workers."""
    cache = EvaluationCache(tmp_path / "cache.sqlite")
    cache.put("key", "value")
    assert pickle.loads(pickle.dumps(cache)).get("key") == "value"


@pytest.mark.parametrize("kept", [False, True])
def test_the_memory_is_bounded(kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest entries go; those of a file can still be had."""
    monkeypatch.setattr("qumos_env.evaluation.cache.MOST_IN_MEMORY", 3)
    cache = EvaluationCache(tmp_path / "cache.sqlite" if kept else None)
    for number in range(6):
        cache.put(str(number), f"value {number}")
    assert list(cache._memory) == ["3", "4", "5"]
    assert cache.get("0") == ("value 0" if kept else None) and cache.get("5") == "value 5"
    assert len(cache._memory) == 3


def test_a_file_that_is_no_cache_is_named(tmp_path: Path) -> None:
    """Not SQLite, a folder, a path under a file: one line, and the file is left alone."""
    text = tmp_path / "notes.txt"
    text.write_text("important " * 100, encoding="utf-8")
    for path in (text, tmp_path, text / "cache.sqlite"):
        with pytest.raises(QumosError, match="cannot be used") as caught:
            EvaluationCache(path)
        assert str(path) in str(caught.value)
    assert text.read_text(encoding="utf-8") == "important " * 100


def test_write_text_replaces_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the replacing fails the old content is still there and nothing else is left."""
    path = tmp_path / "new" / "file.txt"
    write_text(path, "old ü")
    assert path.read_text(encoding="utf-8") == "old ü"

    def fail(source: object, target: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text(encoding="utf-8") == "old ü"
    assert [item.name for item in path.parent.iterdir()] == ["file.txt"]


def test_written_files_have_ordinary_permissions(tmp_path: Path) -> None:
    """Not the private mode of a temporary file."""
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "file.txt", "text")
        with new_folder(tmp_path / "folder", ours=marked) as folder:
            write_text(folder / "m", "")
    finally:
        os.umask(before)
    assert (tmp_path / "file.txt").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o755


def marked(folder: Path) -> Collection[str] | None:
    """Files of a folder that holds the marker ``m``: those that it lists."""
    return ["m", *(folder / "m").read_text().split()] if (folder / "m").is_file() else None


def test_a_new_folder_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    """It is only there once the block has ended well."""
    target = tmp_path / "out" / "folder"
    with pytest.raises(RuntimeError, match="half way"), new_folder(target, ours=marked) as folder:
        write_text(folder / "m", "")
        raise RuntimeError("half way")
    assert not target.exists()
    assert list(target.parent.iterdir()) == []
    with new_folder(target, ours=marked) as folder:
        write_text(folder / "m", "1")
        write_text(folder / "deep" / "file", "2")
        assert not target.exists()
    assert {str(path.relative_to(target)) for path in target.rglob("*")} == {"m", "deep", "deep/file"}
    assert list(target.parent.iterdir()) == [target]


def test_an_empty_folder_may_be_used(tmp_path: Path) -> None:
    """People make the folder first."""
    target = tmp_path / "folder"
    target.mkdir()
    with new_folder(target, ours=marked) as folder:
        write_text(folder / "m", "")
    assert (target / "m").is_file()


def test_force_replaces_only_folders_of_the_same_kind(tmp_path: Path) -> None:
    """Anything else is never touched, with or without it."""
    target = tmp_path / "folder"
    with new_folder(target, ours=marked) as folder:
        write_text(folder / "m", "first old")
        write_text(folder / "old", "")
        write_text(folder / "first", "")
    write_text(target / "notes" / "mine.txt", "kept")
    (target / "link").symlink_to(tmp_path)
    with pytest.raises(QumosError, match="--force"), new_folder(target, ours=marked):
        raise AssertionError("entered")
    with new_folder(target, ours=marked, force=True) as folder:
        write_text(folder / "m", "second")
        assert (target / "m").read_text(encoding="utf-8") == "first old"
    assert sorted(path.name for path in target.iterdir()) == ["link", "m", "notes"]
    assert (target / "notes" / "mine.txt").read_text(encoding="utf-8") == "kept" and (target / "link").is_symlink()
    assert (target / "m").read_text(encoding="utf-8") == "second"
    with pytest.raises(RuntimeError), new_folder(target, ours=marked, force=True):
        raise RuntimeError("half way")
    assert (target / "m").read_text(encoding="utf-8") == "second"

    foreign = tmp_path / "photos"
    foreign.mkdir()
    write_text(foreign / "wedding.jpg", "")
    for force in (False, True):
        with pytest.raises(QumosError, match="other content"), new_folder(foreign, ours=marked, force=force):
            raise AssertionError("entered")
    assert [path.name for path in foreign.iterdir()] == ["wedding.jpg"]


def test_folders_keep_the_permissions_that_they_were_given(tmp_path: Path) -> None:
    """Of what is replaced, and of what others put into it."""
    target = tmp_path / "folder"
    with new_folder(target, ours=marked) as folder:
        write_text(folder / "m", "")
    write_text(target / "private" / "deep" / "file", "mine")
    for path, mode in ((target / "private" / "deep", 0o711), (target / "private", 0o700), (target, 0o750)):
        path.chmod(mode)
    with new_folder(target, ours=marked, force=True) as folder:
        write_text(folder / "m", "")
    modes = [path.stat().st_mode & 0o777 for path in (target, target / "private", target / "private" / "deep")]
    assert modes == [0o750, 0o700, 0o711] and (target / "private" / "deep" / "file").is_file()


@pytest.mark.parametrize("name", [".", "..", "../.."])
def test_the_folder_that_one_is_in_is_not_replaced(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell would stand in a folder that is gone."""
    here = tmp_path / "one" / "two"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    write_text((here / name).resolve() / "m", "")
    with pytest.raises(QumosError, match="the folder that you are in"), new_folder(name, ours=marked, force=True):
        raise AssertionError("entered")
    assert here.is_dir() and not any(path.name.startswith(".") for path in tmp_path.rglob("*"))


def test_what_fails_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    """Not the one beside it, and not none."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))  # stands for a full disk
    try:
        with pytest.raises(OSError) as caught:
            write_text(tmp_path / "file.txt", "x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert caught.value.filename == str(tmp_path / "file.txt") and list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    """As the folder, and above it."""
    path = tmp_path / "file"
    path.write_text("text", encoding="utf-8")
    for target, words in [(path, "not a folder"), (path / "folder", "cannot be written")]:
        with pytest.raises(QumosError, match=words), new_folder(target, ours=marked, force=True):
            raise AssertionError("entered")
    assert path.read_text(encoding="utf-8") == "text"


def test_nearest_names() -> None:
    """Errors offer what was probably meant, or everything."""
    assert str(unknown("gate", "ryy", ["ry", "rx", "cz"])).startswith("unknown gate 'ryy'; did you mean ry")
    assert str(unknown("gate", "foo", ["ry", "rx"])) == "unknown gate 'foo'; choose from rx, ry"
    assert str(unknown("gate", "foo", [])) == "unknown gate 'foo'; choose from nothing"
    assert one_line("a\n  b\tc ") == "a b c"
