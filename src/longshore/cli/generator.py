"""``longshore-generator``: Quadlet files become services, at each boot and reload of systemd.

systemd.generator(7): it is called with three directories, of which the first one is used, before
anything else runs. It says what is wrong to the kernel's log, because no other may be there yet.
"""

from __future__ import annotations

import os
import sys

from longshore.errors import InvalidArgument, LongshoreError
from longshore.units import generator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["main"]

_USAGE = """\
Usage:
  longshore-generator [options] NORMAL-DIR [EARLY-DIR LATE-DIR]    as systemd calls it
  longshore-generator [--user] --dryrun                            print the services
  longshore-generator [--user] --install [DIR]                     let systemd call it

Options:
      --dryrun             print what would be written, and what is wrong
      --install            write a program into DIR, by default
                           /etc/systemd/system-generators, or user-generators
      --no-kmsg-log        say what is wrong on standard error only
      --program COMMAND    how services call longshore
      --user               for a user's systemd
  -v, --version            print the version
"""
_SWITCHES = ("dryrun", "install", "no-kmsg-log", "user", "version", "help")
_SHORT = {"-v": "version", "-h": "help"}
_NAME = "longshore-generator"
_PEER = "podman-{}-generator"
_GENERATORS = ("/run/systemd", "/etc/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd")


def main(argv: Sequence[str] | None = None) -> int:
    """Do one command line; the exit code is 1 if a file could not become a service."""
    try:
        switches, program, words = _parse(sys.argv[1:] if argv is None else argv)
        if "help" in switches:
            print(_USAGE, end="")
            return 0
        if "version" in switches:
            from longshore import __version__

            print(f"{_NAME} {__version__}")
            return 0
        user = "user" in switches or os.environ.get("SYSTEMD_SCOPE") == "user"
        program = program or _program()
        if "install" in switches:
            return _install(words, program, user=user)
        dry = "dryrun" in switches
        if not dry and len(words) not in (1, 3):
            raise InvalidArgument(
                "there is no directory to write to", hint=f"`{_NAME} --dryrun` prints the services"
            )
        tell = _teller(dry or "no-kmsg-log" in switches)
        return _generate(words, program, tell, user=user, dry=dry)
    except LongshoreError as err:
        print(f"Error: {err}" + (f"\nhint: {err.hint}" if err.hint else ""), file=sys.stderr)
        return err.exit_code


def _parse(words: Sequence[str]) -> tuple[frozenset[str], str, list[str]]:
    switches: set[str] = set()
    rest: list[str] = []
    program, left = "", list(words)
    while left:
        word = left.pop(0)
        name, equals, value = word.lstrip("-").partition("=")  # one dash too, as podman's
        if not word.startswith("-"):
            rest.append(word)
        elif word in _SHORT:
            switches.add(_SHORT[word])
        elif name == "program" and (equals or left):
            program = value if equals else left.pop(0)
        elif name in _SWITCHES and not equals:
            switches.add(name)
        else:
            raise InvalidArgument(f"unknown flag: {word}", hint=f"see '{_NAME} --help'")
    return frozenset(switches), program, rest


def _program() -> str:
    """Return how to call the longshore that is beside this program, or this one's own package."""
    from longshore.units.unitfile import command

    beside = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "longshore")
    if os.access(beside, os.X_OK) and not os.path.isdir(beside):
        return command([beside], literal=True)
    return command([sys.executable, "-m", "longshore"], literal=True)


def _teller(quiet: bool) -> Callable[[str], None]:
    kernel = -1
    if not quiet:
        try:
            kernel = os.open("/dev/kmsg", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            pass

    def tell(message: str) -> None:
        line = f"{_NAME}[{os.getpid()}]: {' '.join(message.split())}"
        print(line, file=sys.stderr)
        if kernel >= 0:
            try:
                os.write(kernel, f"<3>{line}"[:900].encode("utf-8", "replace"))
            except OSError:
                pass

    return tell


def _generate(
    words: Sequence[str], program: str, tell: Callable[[str], None], *, user: bool, dry: bool
) -> int:
    wrong: list[str] = []

    def note(message: str) -> None:
        wrong.append(message)
        tell(message)

    path = generator.search_path(os.environ, user=user, uid=os.getuid())
    made = generator.generate(generator.Found(path, user=user), program=program, tell=note)
    if dry:
        for one in made:
            print(f"---{one.name}---\n{one.text}")
            for link, target in one.links:
                print(f"# {link} -> {target}")
    else:
        generator.write(made, words[0], tell=note)
    return 1 if wrong else 0


def _install(words: Sequence[str], program: str, *, user: bool) -> int:
    kind = "user" if user else "system"
    directory = words[0] if words else f"/etc/systemd/{kind}-generators"
    peer = _active_peer(kind)
    if peer:
        raise InvalidArgument(
            f"{peer} reads the same files, and would write services of the same names",
            hint="turn it off: ln -s /dev/null "
            f"/etc/systemd/{kind}-generators/{os.path.basename(peer)}",
        )
    # isolated and without site: a third of the interpreter's start-up
    own = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = (
        f"import sys; sys.path.insert(0, {own!r}); "
        "from longshore.cli.generator import main; sys.exit(main())"
    )
    import shlex

    argv = [sys.executable, "-I", "-S", "-c", code, f"--program={program}"]
    argv += ["--user"] if user else []
    text = f'#!/bin/sh\nexec {shlex.join(argv)} "$@"\n'
    path = f"{directory}/{_NAME}"
    try:
        os.makedirs(directory, exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o755)
    except OSError as err:
        raise InvalidArgument(f"cannot write {path}: {err.strerror}") from err
    print(path)
    return 0


def _active_peer(kind: str) -> str:
    """Return podman's generator if systemd calls it; a link to /dev/null turns one off."""
    name = _PEER.format(kind)
    for place in _GENERATORS:
        path = f"{place}/{kind}-generators/{name}"
        if os.path.lexists(path):
            return path if os.path.realpath(path) != "/dev/null" else ""
    return ""


if __name__ == "__main__":
    sys.exit(main())
