"""A host's SELinux, as files that stand in for the kernel's: what is written stays to be read."""

from __future__ import annotations

from pathlib import Path

from longshore.linux.selinux import SELinux

CONTEXTS = """\
# comments and blanks are allowed

process = "system_u:system_r:container_t:s0"
file = "system_u:object_r:container_file_t:s0"
ro_file="system_u:object_r:container_ro_file_t:s0"
kvm_process = "system_u:system_r:container_kvm_t:s0"
init_process = "system_u:system_r:container_init_t:s0"
"""
CALLER = "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023"


class ScriptedSELinux(SELinux):
    """SELinux below ``top``: proc/thread-self/attr, selinux (selinuxfs) and etc."""

    def __init__(self, top: Path, *, current: str = CALLER, contexts: str = CONTEXTS) -> None:
        self.attr = top / "proc/thread-self/attr"
        self.fs = top / "selinux"
        etc = top / "etc"
        self.attr.mkdir(parents=True)
        self.fs.mkdir()
        (etc / "box/contexts").mkdir(parents=True)
        (self.attr / "current").write_bytes(current.encode() + b"\0")
        (self.attr / "exec").write_bytes(b"")
        (self.fs / "enforce").write_text("1")
        (self.fs / "context").write_text("")
        (etc / "config").write_text("# a comment\nSELINUX=enforcing\nSELINUXTYPE=box\n")
        (etc / "box/contexts/lxc_contexts").write_text(contexts)
        super().__init__(
            proc=str(top / "proc"), fs=str(self.fs), etc=str(etc), contexts=str(top / "none")
        )
