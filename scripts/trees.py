"""Trees of Debian that scripts here stand on: made once, kept, furnished like this machine."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RELEASES = {"12": "bookworm", "13": "trixie", "sid": "sid"}
KEPT_FOR = 14 * 24 * 3600  # seconds in which a tree has to be used to be kept
# Of this machine's own environment a tree gets how to reach its package mirrors.
PASSED_ON = re.compile(r"(PIP_|.*_proxy$|.*_PROXY$|SSL_CERT_|REQUESTS_CA_BUNDLE$|CURL_CA_BUNDLE$)")


def cache() -> Path:
    """Return where trees are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longshore"


def environment() -> dict[str, str]:
    """Return the environment of a command in a tree."""
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
    }
    return env | {k: v for k, v in os.environ.items() if PASSED_ON.match(k)}


def apt_sources(release: str) -> str:
    """Return this machine's own sources of Debian, for another release of it; "" if it has none."""
    codename = ""
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            codename = line.partition("=")[2].strip('"')
    if not codename:
        return ""
    stanzas = []
    for path in [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*.*")]:
        if not path.exists() or path.suffix not in (".list", ".sources"):
            continue
        text = path.read_text()
        pieces = text.splitlines() if path.suffix == ".list" else re.split(r"\n\s*\n", text)
        for piece in pieces:
            code = "\n".join(x for x in piece.splitlines() if not x.lstrip().startswith("#"))
            # Others' repositories use the codename too; the distribution's own are called main.
            if codename in code and re.search(r"\bmain\b", code) and "deb-src" not in code:
                code = re.sub(rf"\b{codename}\b", RELEASES[release], code)
                code = code if path.suffix == ".sources" else one_line(code)
                # sid is one suite: updates and security are in it
                code = re.sub(r"\bsid-[\w-]+ *", "", code)
                if re.search(r"^Suites: *\S", code, re.MULTILINE):
                    stanzas.append(code)
    return "\n\n".join(stanzas) + "\n" if stanzas else ""


def one_line(entry: str) -> str:
    """Return a one-line entry of sources.list as a stanza, so that one file can hold both kinds."""
    match = re.match(r"deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(\S+)\s+(\S+)\s+(.*)", entry.strip())
    if not match:
        return ""
    signed = re.search(r"signed-by=(\S+)", match["options"] or "")
    stanza = f"Types: deb\nURIs: {match[2]}\nSuites: {match[3]}\nComponents: {match[4]}"
    return stanza + (f"\nSigned-By: {signed[1]}" if signed else "")


def apt_options() -> list[Path]:
    """Return the files of this machine's apt configuration that say how to fetch packages."""
    return [p for p in sorted(Path("/etc/apt/apt.conf.d").glob("*")) if "Acquire" in p.read_text()]


@contextlib.contextmanager
def _alone(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a file or directory alone; False when somebody has it and is not waited for."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDONLY | os.O_CREAT)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            got = True
        except BlockingIOError:
            got = False
        yield got
    finally:
        os.close(descriptor)


def hold(tree: Path) -> None:
    """Keep a tree from being removed as an old one for as long as this process lives."""
    fcntl.flock(os.open(tree, os.O_RDONLY), fcntl.LOCK_SH)
    os.utime(tree)


def debian(
    name: str,
    release: str,
    packages: Sequence[str],
    say: Callable[[str], None],
    *,
    variant: str = "minbase",
    recipe: str = "",
    finish: Callable[[Path], None] = lambda _: None,
) -> Path:
    """Return the kept tree ``name`` with these packages, made now if it is not there yet.

    ``variant`` is mmdebstrap's: of "extract" the packages are unpacked, and nothing is set up.
    ``recipe`` stands for what ``finish`` does to a new tree: another one makes another tree.
    A tree is whole or not there: it is made beside its place, and moved there.
    """
    sources = apt_sources(release)
    options = "".join(p.read_text() for p in apt_options())
    more = [*([recipe] if recipe else []), *([variant] if variant != "minbase" else [])]
    known = repr((sources, options, tuple(packages), *more))
    tree = cache() / f"{name}-{hashlib.sha256(known.encode()).hexdigest()[:8]}"
    cache().mkdir(parents=True, exist_ok=True)
    # While one makes it others wait, and use the same.
    with _alone(cache() / f".{name}.lock", wait=True):
        if not tree.exists():
            remove_old(name, say)
            say(f"making {tree} (once)")
            with tempfile.TemporaryDirectory(prefix=f".new-{name}-", dir=cache()) as scratch:
                new = Path(scratch) / "tree"
                _mmdebstrap(new, release, packages, sources, variant)
                finish(new)
                new.rename(tree)
        hold(tree)
    return tree


def _mmdebstrap(
    new: Path, release: str, packages: Sequence[str], sources: str, variant: str
) -> None:
    argv = ["mmdebstrap", "--quiet", f"--variant={variant}", f"--include={','.join(packages)}"]
    argv += [f"--aptopt={p}" for p in apt_options()]
    argv += [RELEASES[release], str(new)]
    if sources:
        listed = new.with_name("debian.sources")
        listed.write_text(sources)
        argv.append(str(listed))
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)


def remove_old(name: str, say: Callable[[str], None]) -> None:
    """Remove what a maker that was killed left, and trees that nobody has used for long."""
    for rest in cache().glob(f".new-{name}-*"):
        shutil.rmtree(rest)
    for old in cache().glob(f"{name}-{'[0-9a-f]' * 8}"):
        if time.time() - old.stat().st_mtime > KEPT_FOR:
            with _alone(old, wait=False) as unused:
                if unused:
                    say(f"removing {old}, which was not used for long")
                    shutil.rmtree(old)


def copy_checkout(target: Path) -> None:
    """Copy what a clean clone would have, with what is new here and not committed yet."""
    target.mkdir(parents=True)
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        source = ROOT / name
        if source.is_symlink() or source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name, follow_symlinks=False)


def furnish(tree: Path) -> None:
    """Give a tree this machine's name service, certificates and pip configuration."""
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    for source in (Path("/etc/resolv.conf"), certificates, Path("/etc/pip.conf")):
        if source.exists():
            target = tree / source.relative_to("/")
            target.unlink(missing_ok=True)
            shutil.copyfile(source, target)
    user_pip = Path.home() / ".config/pip/pip.conf"
    if user_pip.exists():
        (tree / "root/.config/pip").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(user_pip, tree / "root/.config/pip/pip.conf")


def as_root(script: str, name: str) -> None:
    """Go on as root: through sudo, when this is somebody else."""
    if os.geteuid() == 0:
        return
    argv = ["sudo", "--preserve-env", "--", sys.executable, os.path.abspath(script), *sys.argv[1:]]
    try:
        os.execvp("sudo", argv)
    except OSError:
        sys.exit(f"{name}: needs root, and there is no sudo")
