"""store/layout.py: every path in one place, and nothing that others may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from longshore.errors import StoreError
from longshore.store import Layout, Store

ID = "ab" * 32


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(str(tmp_path / "root"), str(tmp_path / "run"))


def test_prepare_makes_private_directories(layout: Layout) -> None:
    layout.prepare()
    layout.prepare()
    modes = {}
    for top in (layout.root, layout.run):
        for directory, _, _ in os.walk(top):
            modes[directory] = stat.S_IMODE(os.stat(directory).st_mode)
    wide = {path for path, mode in modes.items() if mode != 0o700}
    assert wide == {layout.exits}
    assert modes[layout.exits] == 0o750


def test_prepare_does_not_depend_on_the_umask(layout: Layout) -> None:
    before = os.umask(0)
    try:
        layout.prepare()
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(layout.containers).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(layout.exits).st_mode) == 0o750


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot make .*file/root: Not a dir") as err:
        Layout(str(tmp_path / "file/root"), str(tmp_path / "run")).prepare()
    assert err.value.hint == "--root and --runroot name others"


# --- what others could change ------------------------------------------------------------------

OTHER = 4711


def _give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a path somebody else's; who cannot give things away becomes somebody else."""
    if os.geteuid() == 0:
        os.chown(path, OTHER, OTHER, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: OTHER)


@pytest.mark.parametrize("which", ["root", "run"])
@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("another's", r"it belongs to user \d+"),
        ("a link of another's", r"it belongs to user \d+"),
        ("a link to another's", r"it belongs to user \d+"),
        ("of the group", "others than its owner can write to it"),
        ("everybody's", "others than its owner can write to it"),
        ("like /tmp", "others than its owner can write to it"),
    ],
)
def test_what_others_can_change_is_refused(
    layout: Layout, which: str, how: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(getattr(layout, which))
    aside = tmp_path / "aside"
    if "link" in how:
        aside.mkdir(mode=0o700)
        path.symlink_to(aside)
    else:
        path.mkdir(mode=0o700)
    if how == "a link to another's":
        _give_away(aside, monkeypatch)
    elif "another's" in how:
        _give_away(path, monkeypatch)
    else:
        path.chmod({"of the group": 0o770, "everybody's": 0o707, "like /tmp": 0o1777}[how])
    before = sorted(tmp_path.rglob("*"))
    for act in (layout.prepare, Store(layout).ids, lambda: Store(layout).peek(ID)):
        with pytest.raises(StoreError, match=f"does not use {path}: {why}") as caught:
            act()
        assert ("--runroot" if which == "run" else "--root") in (caught.value.hint or "")
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written"


def test_a_link_of_our_own_and_a_directory_of_roots_are_fine(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "aside").mkdir(mode=0o755)
    Path(layout.root).symlink_to(tmp_path / "aside")
    layout.prepare()
    layout.vet()
    if os.geteuid() == 0:
        monkeypatch.setattr(os, "geteuid", lambda: OTHER)
        Layout(layout.root, layout.run).vet()


def test_it_is_looked_at_again_before_each_creation(layout: Layout) -> None:
    layout.prepare()
    os.chmod(layout.run, 0o777)
    with pytest.raises(StoreError):
        layout.prepare()


# --- where things are --------------------------------------------------------------------------


def test_nothing_durable_is_in_the_run_directory(layout: Layout) -> None:
    paths = layout.paths(ID)
    durable = (
        paths.record, paths.lock, paths.log, paths.layer, paths.merged,
        layout.names, layout.exit_record(ID),
    )  # fmt: skip
    volatile = (
        paths.bundle, paths.config, paths.pidfile, paths.conmon_pidfile, paths.runtime_log,
        paths.exit_file, paths.attach_socket, paths.ctl_fifo, paths.oom_file,
        layout.runtimes, layout.cache,
    )  # fmt: skip
    assert all(path.startswith(f"{layout.root}/") for path in durable)
    assert all(path.startswith(f"{layout.run}/") for path in volatile)
    assert len({*durable, *volatile}) == len(durable) + len(volatile)


def test_the_names_that_conmon_gives(layout: Layout) -> None:
    """conmon writes its exit file as EXIT_DIR/ID, and with --full-attach BUNDLE/attach."""
    paths = layout.paths(ID)
    assert paths.exit_file == f"{paths.exit_dir}/{ID}"
    assert paths.attach_socket == f"{paths.bundle}/attach"
    assert paths.ctl_fifo == f"{paths.bundle}/ctl"
