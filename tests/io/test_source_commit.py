"""Results record the commit of the project's folder, where it has one."""

import subprocess
from pathlib import Path

import pytest

from tood.io.source_commit import SourceCommit, source_commit


def git(*arguments: str) -> str:
    name = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    return subprocess.run(["git", *name, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def test_a_commit_and_whether_files_differ_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert source_commit() == SourceCommit(None, None, "the project is not in a git repository")
    git("init", "--quiet")
    assert source_commit() == SourceCommit(None, None, "the git repository has no commit")
    Path("a").write_text("1")
    git("add", "a")
    git("commit", "--quiet", "--message", "first")
    git("tag", "v1", "--annotate", "--message", "v1")
    commit = git("rev-parse", "HEAD")
    Path("untracked").touch()
    assert source_commit() == SourceCommit(commit, False, "")
    Path("a").write_text("2")
    assert source_commit() == SourceCommit(commit, True, "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source_commit() == SourceCommit(None, None, "git is not installed")
