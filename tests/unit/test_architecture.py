"""The shape of the code: who may import whom, how long a module may be, what a start may cost."""

from __future__ import annotations

import ast
import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostkit import ROOT

PACKAGE = ROOT / "src/longshore"

# Lowest first. A part imports only from rows above its own, and never from its own row.
ROWS = (
    {"errors", "_value", "_log"},
    {"lifecycle"},
    {"models"},
    {"options"},
    {"units"},
    {"oci"},
    {"linux"},
    {"config"},
    {"runtime", "monitor", "cgroup", "storage", "network"},
    {"store"},
    {"engine"},
    {"aio"},
    {"cli", "testing"},
)
RANK = {part: row for row, parts in enumerate(ROWS) for part in parts}
# Only re-export what others have, lazily.
FACES = {"__init__", "__main__"}

MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 500  # lines
# Signatures may name what is above them, for type checkers only.
TYPES_ONLY = {("errors", "models"), ("options", "oci")}


def part_of(path: Path) -> str:
    """Return the part of the tree that a module belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def parsed(path: Path) -> tuple[ast.Module, list[str]]:
    """Return a module's tree, and the package it is in."""
    return ast.parse(path.read_text()), ["longshore", *path.relative_to(PACKAGE).parts[:-1]]


@functools.cache
def imports(path: Path) -> list[tuple[str, int]]:
    """Return (dotted name, line) of every import of a module, type-only and lazy ones too."""
    return list(_imports(*parsed(path)))


def _imports(tree: ast.AST, package: list[str]) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for name in node.names:
                yield f"{module}.{name.name}", node.lineno


def name(path: Path) -> str:
    """Name a module in a test's id."""
    return str(path.relative_to(PACKAGE))


def type_only(tree: ast.Module) -> set[int]:
    """Return the lines that only a type checker reads."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for inner in node.body:
                lines |= set(range(inner.lineno, (inner.end_lineno or inner.lineno) + 1))
    return lines


def test_every_part_has_a_row() -> None:
    parts = {part_of(path) for path in MODULES} - FACES
    assert parts <= set(RANK), "give it a row in ROWS"


@functools.cache
def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """Return (function as written, call) for every call in a module."""
    return [
        (ast.unparse(node.func), node)
        for node in ast.walk(parsed(path)[0])
        if isinstance(node, ast.Call)
    ]


def test_import_order() -> None:
    wrong = []
    for path in MODULES:
        own = part_of(path)
        if own in FACES:
            continue
        tree, _ = parsed(path)
        only_types = type_only(tree)
        for dotted, line in imports(path):
            words = dotted.split(".")
            if words[0] != "longshore" or len(words) < 2 or words[1] not in RANK:
                continue
            other = words[1]
            if other == own or ((own, other) in TYPES_ONLY and line in only_types):
                continue
            if RANK[other] >= RANK[own]:
                wrong.append(f"{name(path)}:{line}: {own} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_no_module_is_too_long() -> None:
    lengths = {name(path): len(path.read_text().splitlines()) for path in MODULES}
    too_long = {module: lines for module, lines in lengths.items() if lines > LONGEST}
    assert not too_long, f"find the seam in {too_long}"


# Programs of our own that others start, and no parts of the library.
PROGRAMS = {
    *("engine/exitcmd.py", "engine/reaping.py", "engine/sessionexit.py"),
    "linux/sharemount.py",
}


def test_one_door_for_subprocesses() -> None:
    spawning = ("os.system", "os.popen", "os.posix_spawn", "os.posix_spawnp", "os.fork")
    wrong = []
    for path in MODULES:
        if name(path) in {"linux/procs.py"} | PROGRAMS:
            continue
        tree, _ = parsed(path)
        only_types = type_only(tree)
        wrong += [
            f"{name(path)}:{line}: {dotted}"
            for dotted, line in imports(path)
            if dotted.split(".")[0] in ("subprocess", "multiprocessing", "pty")
            and line not in only_types
        ]
        wrong += [f"{name(path)}:{node.lineno}" for f, node in calls(path) if f in spawning]
    assert not wrong, f"go through linux/procs.py: {wrong}"


def test_the_library_prints_nothing_and_never_exits() -> None:
    wrong = []
    for path in MODULES:
        if part_of(path) in ("cli", "__main__"):
            continue
        forbidden = {"print", "sys.exit", "exit", "os._exit"}
        if name(path) in PROGRAMS:
            forbidden = {"print"}
        wrong += [f"{name(path)}:{node.lineno}" for f, node in calls(path) if f in forbidden]
    assert not wrong, wrong


def test_the_host_process_is_left_alone() -> None:
    """No signal handler, no waiting for any child, no change of the caller's process."""
    forbidden = {"signal.signal", "os.chdir", "os.umask", "os.putenv", "signal.pthread_sigmask"}
    wrong = []
    for path in MODULES:
        if part_of(path) == "cli" or name(path) in PROGRAMS:
            continue
        for function, node in calls(path):
            any_child = function in ("os.waitpid", "os.wait4") and (
                ast.unparse(node.args[0]) == "-1"
            )
            if function in forbidden or any_child or function == "os.wait":
                wrong.append(f"{name(path)}:{node.lineno}: {ast.unparse(node)}")
    assert not wrong, "\n".join(wrong)


def test_every_module_says_what_it_is_for() -> None:
    silent = [name(path) for path in MODULES if not ast.get_docstring(parsed(path)[0])]
    assert not silent


def test_asyncio_is_imported_by_aio_alone() -> None:
    wrong = [
        name(path)
        for path in MODULES
        if part_of(path) != "aio"
        and any(dotted.split(".")[0] == "asyncio" for dotted, _ in imports(path))
    ]
    assert not wrong


def test_dbus_belongs_to_the_systemd_manager() -> None:
    """jeepney has one door, and that is opened where it is used, never on a path of cgroupfs."""
    inner = {"longshore.cgroup.bus", "longshore.cgroup.systemd"}
    wrong = []
    for path in MODULES:
        tree, _ = parsed(path)
        only_types = type_only(tree)
        at_import = {n.lineno for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))}
        for dotted, line in imports(path):
            if line in only_types:
                continue
            if dotted.split(".")[0] == "jeepney" and name(path) != "cgroup/bus.py":
                wrong.append(f"{name(path)}:{line}: {dotted}")
            parts = {dotted, dotted.rpartition(".")[0]}
            if line in at_import and parts & inner:
                wrong.append(f"{name(path)}:{line}: {dotted} at import")
    assert not wrong, "\n".join(wrong)


# --- what a start costs: counted, because times differ ----------------------------------------


def modules_of(code: str) -> set[str]:
    """Return the modules that some code loads in a fresh interpreter, beyond a bare one's."""
    env = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT / "src")}
    show = "\nimport sys, json; print(json.dumps(sorted(sys.modules)))"

    def loaded(text: str) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-S", "-c", text + show],
            env=env,
            check=True,
            capture_output=True,
            text=True,
        )
        return set(json.loads(done.stdout.splitlines()[-1]))

    return loaded(code) - loaded("")


def test_import_is_nearly_free() -> None:
    found = modules_of("import longshore")
    assert len(found) <= 3, sorted(found)


# Each of these costs milliseconds, at every start of the command.
HEAVY = {
    "argparse", "asyncio", "ctypes", "dataclasses", "datetime", "importlib.metadata", "inspect",
    "jeepney", "logging", "pathlib", "random", "shutil", "socket", "tempfile", "tomllib", "typing",
    "urllib", "uuid",
}  # fmt: skip


def test_the_engine_loads_nothing_heavy() -> None:
    found = modules_of("from longshore import Engine")
    assert not found & HEAVY
    assert len(found) <= 105, sorted(found)


@pytest.mark.parametrize("verb", ["run", "exec", "ps", "rm", "stop", "logs", "inspect"])
def test_commands_load_nothing_heavy(verb: str) -> None:
    code = f"import longshore.cli as c; c.load(c.VERBS[{verb!r}])"
    found = modules_of(code)
    assert not found & HEAVY
    others = {f"longshore.cli.{entry[0]}" for entry in _verbs().values()}
    own = f"longshore.cli.{_verbs()[verb][0]}"
    # A command may share code with its kin (run with create), but does not load the whole family.
    assert len(found & (others - {own})) <= 2, sorted(found & others)


def test_systemd_waits_for_the_generator() -> None:
    found = modules_of(
        "from longshore.cli.generator import main; main(['--dryrun', '--program=x'])"
    )
    assert not found & (HEAVY | {"re._casefix", "json", "select"})
    assert not {name for name in found if name.startswith("longshore.engine")}
    assert len(found) <= 40, sorted(found)


def _verbs() -> dict[str, tuple[str, str, str]]:
    from longshore.cli import VERBS

    return dict(VERBS)
