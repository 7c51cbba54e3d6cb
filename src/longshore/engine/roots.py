"""A container's root directory: its copy-on-write view, mounted and unmounted.

As root with mount(2). For an ordinary user with mount(8) in the user's namespace, where the user is
root; other programs see it there only.
"""

from __future__ import annotations

import contextlib
import os

from longshore.errors import HostUnsupported, LongshoreError
from longshore.linux import userns
from longshore.linux.files import make_directory, remove_tree
from longshore.linux.mounts import mount, mount_points, unmount
from longshore.linux.procs import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from longshore.engine.idmaps import Maps
    from longshore.engine.machinery import Machinery
    from longshore.oci.users import ResolvedUser
    from longshore.options import ContainerConfig
    from longshore.store import Record

# Roots of containers with ids of their own. Their root has to pass every directory on the path
# (S24), as one that the host does not know: our own directories stay closed, and here is nothing
# else, behind a directory that only its group may pass.
_MAPPED = "/run/longshore-userns"
_PATIENCE = 30.0  # seconds; for mount(8) and its like


def is_mapped(machinery: Machinery, config: ContainerConfig) -> bool:
    """Whether a root is shown to a container of root's with other ids than its files have."""
    return bool(config.mapped_uids) and machinery.user is None


def place(machinery: Machinery, record: Record) -> str:
    """Return the path that a container's root has while it runs."""
    config = record.config
    if is_mapped(machinery, config):
        return f"{_MAPPED}/{record.id}/root"
    return machinery.paths(record.id).merged if config.overlay else config.rootfs


def mount_root(machinery: Machinery, record: Record) -> str:
    """Return the path of the container's root, mounted if it is an overlay. It is locked."""
    config = record.config
    if is_mapped(machinery, config):
        return _mount_mapped(machinery, record)
    if not config.overlay:
        return config.rootfs
    # Files of all layers have this one label then, and what is below keeps its own.
    label = record.mount_label if machinery.selinux is not None else ""
    context = f',context="{label}"' if label else ""
    paths = machinery.paths(record.id)
    upper, work = f"{paths.layer}/upper", f"{paths.layer}/work"
    info = os.stat(config.rootfs)
    owner = (info.st_uid, info.st_gid) if machinery.user is None else None
    _make_layer(paths.layer, upper, work, owner, info.st_mode)
    make_directory(paths.merged)
    options = f"upperdir={upper},workdir={work}{context}"
    if machinery.user is None:
        _mount_overlay(machinery, config.rootfs, paths.merged, options)
    else:
        _mount_for_user(machinery, record, upper, options)
    return paths.merged


def _make_layer(
    layer: str, upper: str, work: str, owner: tuple[int, int] | None, mode: int
) -> None:
    make_directory(layer)
    if not os.path.isdir(upper):
        os.mkdir(upper)
        # The upper directory's owner and mode become those of the root itself. An ordinary user
        # owns the roots of its containers, as it cannot give them to whom the lower one belongs.
        if owner is not None:
            os.chown(upper, *owner)
        os.chmod(upper, mode & 0o7777)
    make_directory(work)


def _mount_overlay(machinery: Machinery, rootfs: str, merged: str, options: str) -> None:
    # Through a descriptor, because "," and ":" in a path would end or split the option.
    lower = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        source = f"/proc/self/fd/{lower}" if any(c in rootfs for c in ",:\\") else rootfs
        mount("overlay", merged, "overlay", 0, f"lowerdir={source},{options}")
    except OSError as err:
        raise LongshoreError(
            f"no copy-on-write view of {rootfs}: {err.strerror}",
            hint=f"is {machinery.settings.root} itself on an overlay? "
            "use --root with a directory on another file system",
        ) from err
    finally:
        os.close(lower)


def _mount_mapped(machinery: Machinery, record: Record) -> str:
    """Mount a root so that it has the container's ids; one whose owner has them is left as it is.

    Its files keep their owners on disk, and so does every layer but the container's own.
    """
    config = record.config
    uids, gids = userns.parse(config.mapped_uids), userns.parse(config.mapped_gids)
    top, root = f"{_MAPPED}/{record.id}", place(machinery, record)
    make_directory(_MAPPED)
    os.chmod(_MAPPED, 0o711)  # whatever the umask
    make_directory(top)
    os.chown(top, 0, userns.outside(gids, 0) or 0)
    os.chmod(top, 0o710)
    make_directory(root)
    info = os.stat(config.rootfs)
    fits = userns.inside(uids, info.st_uid) is not None
    if not config.overlay:
        if fits:
            mount(config.rootfs, root, "none", _BIND | _REC)
            _cut_off(root)
        else:
            _bind_idmapped(config.rootfs, root, uids, gids)
        return root
    label = record.mount_label if machinery.selinux is not None else ""
    paths = machinery.paths(record.id)
    upper, work = f"{paths.layer}/upper", f"{paths.layer}/work"
    options = f"upperdir={upper},workdir={work}" + (f',context="{label}"' if label else "")
    uid, gid = info.st_uid, info.st_gid
    if not fits:
        uid, gid = userns.outside(uids, uid) or 0, userns.outside(gids, gid) or 0
    _make_layer(paths.layer, upper, work, (uid, gid), info.st_mode)
    if fits:
        _mount_overlay(machinery, config.rootfs, root, options)
        return root
    lower = f"{top}/lower"
    make_directory(lower)
    _bind_idmapped(config.rootfs, lower, uids, gids)
    try:
        _mount_overlay(machinery, lower, root, options)
    finally:
        unmount(lower, lazy=True)  # the overlay has a mount of its own
    return root


_BIND, _REC, _PRIVATE = 4096, 16384, 1 << 18  # sys/mount.h


def _cut_off(place: str) -> None:
    """Let what is mounted and unmounted at a copy, or below it, stay there.

    A copy of a mount is its peer: unmounted with all below it, it would take what is mounted below
    the original along (mount_namespaces(7)).
    """
    mount("none", place, "none", _REC | _PRIVATE)


def _bind_idmapped(source: str, target: str, uids: Maps, gids: Maps) -> None:
    from longshore.linux.mounts import bind_idmapped

    with userns.Held(uids, gids) as held:
        namespace = os.open(f"/proc/{held.keeper.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        bind_idmapped(source, target, namespace)
        _cut_off(target)
    except OSError as err:
        raise HostUnsupported(
            f"the files of {source} have to be shown with the container's own ids",
            f"its file system or this kernel cannot do that ({err.strerror})",
            hint="put them on ext4, xfs, btrfs or tmpfs with Linux 5.12 or later (an overlay: "
            "5.19), or give them to the container's ids with chown",
        ) from err
    finally:
        os.close(namespace)


# In a user namespace an overlay keeps its own attributes in user.overlay.* (kernel 5.11).
_USER_OPTIONS = ",userxattr"


def _mount_for_user(machinery: Machinery, record: Record, upper: str, options: str) -> None:
    """Mount an overlay in the user's namespace: the kernel's, or where it cannot fuse-overlayfs."""
    lower, merged = record.config.rootfs, machinery.paths(record.id).merged
    if machinery.rootless is not None and machinery.rootless.mounted(merged):
        return  # by a start that was cut short
    if record.config.mapped_uids:
        _open_way(machinery, merged, record)
    if not any(c in lower for c in ",:\\"):
        _overlay_within(machinery, lower, upper, merged, options)
        return
    # they would end or split the option: by another name, beside the mount's own place
    plain = f"{machinery.paths(record.id).layer}/lower"
    make_directory(plain)
    _within(machinery, "mount", "--rbind", lower, plain)
    try:
        _overlay_within(machinery, plain, upper, merged, options)
    finally:
        _within(machinery, "umount", "--lazy", plain)


def _overlay_within(
    machinery: Machinery, lower: str, upper: str, merged: str, options: str
) -> None:
    options = f"lowerdir={lower},{options}"
    native = _within(
        machinery, "mount", "-t", "overlay", "overlay", merged, "-o", options + _USER_OPTIONS,
        check=False,
    )  # fmt: skip
    if not native:
        return
    from longshore.engine.machinery import find_program

    said = native
    fuse = find_program("fuse-overlayfs")
    if fuse is not None and os.access("/dev/fuse", os.R_OK | os.W_OK):
        _hide_mounts(lower, upper)
        failed = _within(machinery, fuse, "-o", options, merged, check=False)
        if not failed:
            return
        said = f"{native}; fuse-overlayfs: {failed}"
    raise LongshoreError(
        f"no copy-on-write view of {lower}: {said}",
        hint="a kernel of 5.11 or later can, or fuse-overlayfs with /dev/fuse; "
        f"{machinery.settings.root} must not be on NFS or on an overlay",
    )


def _within(machinery: Machinery, *words: str, check: bool = True) -> str:
    """Run a program in the user's namespace; return why it failed, or ""."""
    done = run([*machinery.entering(), *words], timeout=_PATIENCE)
    said = "" if done.returncode == 0 else done.words or f"{words[0]}: exit {done.returncode}"
    if said and check:
        raise LongshoreError(f"cannot mount a container's root: {said}")
    return said


def _hide_mounts(lower: str, upper: str) -> None:
    """Let what is mounted below a root be empty directories, as the kernel's overlay shows it.

    fuse-overlayfs would go into them. The file is its own mark for a directory that has nothing of
    the lower one (fuse-overlayfs(1), as of the OCI image-spec's layers).
    """
    from longshore.linux.rooted import Rooted

    top = lower.rstrip("/")
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    # The layer is what the container has made of it: no link of it leads out.
    with Rooted(os.open(upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as layer:
        for point in mount_points():
            inner = point.path[len(top) :]
            below = point.path.startswith(f"{top}/") and inner != "/"
            if not below or not os.path.isdir(point.path):
                continue
            with contextlib.suppress(OSError):
                place = layer.make_directories(inner)
                try:
                    os.close(os.open(".wh..wh..opq", flags, 0o644, dir_fd=place))
                finally:
                    os.close(place)


def _open_way(machinery: Machinery, path: str, record: Record) -> None:
    """Give everybody search permission on the way to a root (S24).

    Its container's root is another user than ours on the way there, if the user itself is not
    mapped. What is not Longshore's own is left as it is: HostUnsupported says which directory.
    """
    if userns.inside(userns.parse(record.config.mapped_uids), 0) is not None:
        return  # the container's root may pass what is the user's (user_namespaces(7))
    own = machinery.settings.root
    steps = path.strip("/").split("/")
    for n in range(1, len(steps) + 1):
        step = "/" + "/".join(steps[:n])
        mode = os.stat(step).st_mode
        if mode & 0o001:
            continue
        if not f"{step}/".startswith(f"{own}/"):
            raise HostUnsupported(
                f"the ids of container {record.name} have to pass {step}, on the way to its root",
                "only its owner may",
                hint=f"`chmod o+x {step}`, use --root with another directory, or --userns keep-id",
            )
        os.chmod(step, (mode & 0o7777) | 0o001)


def unmount_root(machinery: Machinery, container_id: str) -> None:
    """Unmount a container's view, if it is mounted."""
    merged = machinery.paths(container_id).merged
    mapped = f"{_MAPPED}/{container_id}"
    if machinery.user is None and os.path.isdir(mapped):
        for name in ("lower", "root"):
            # A bind is no mount point to os.path.ismount; who made it may have been killed before
            # it was cut off.
            while _is_mounted(f"{mapped}/{name}"):
                _cut_off(f"{mapped}/{name}")
                unmount(f"{mapped}/{name}", lazy=True)
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(f"{mapped}/{name}")
        os.rmdir(mapped)
    rootless = machinery.rootless
    if rootless is None:
        while os.path.ismount(merged):
            unmount(merged, lazy=True)
        return
    while rootless.mounted(merged):
        done = run([*machinery.entering(), "umount", "--lazy", merged], timeout=_PATIENCE)
        if done.returncode != 0 and rootless.mounted(merged):
            raise LongshoreError(f"cannot unmount {merged}: {done.words}")


def _is_mounted(path: str) -> bool:
    return any(point.path == path for point in mount_points())


def unmount_view(machinery: Machinery, record: Record, namespace: int) -> None:
    """Unmount what `mount_root` has mounted in a mount namespace of a user's that is given up.

    The kernel would do it, but for the process of fuse-overlayfs, which is in there itself.
    ``namespace`` is a descriptor.
    """
    if machinery.user is None or not record.config.overlay:
        return
    merged = machinery.paths(record.id).merged
    entering = [userns.program("nsenter"), f"--mount=/proc/self/fd/{namespace}"]
    run([*entering, "umount", "--lazy", merged], pass_fds=(namespace,), timeout=_PATIENCE)


def seen(machinery: Machinery, root: str) -> str:
    """Return where this process sees a root that is mounted."""
    rootless = machinery.rootless
    return root if rootless is None else rootless.path(root)


def remove_owned(machinery: Machinery, path: str) -> None:
    """Remove a directory in which a container's users may own files (`remove_tree`)."""
    try:
        remove_tree(path)
    except PermissionError:
        if machinery.rootless is None:
            raise
        done = run([*machinery.entering(), "rm", "-rf", "--one-file-system", "--", path])
        if done.returncode != 0:
            raise LongshoreError(f"cannot remove {path}: {done.words}") from None


def user_of(
    machinery: Machinery, root: str, user: str, group_add: Iterable[str] = ()
) -> ResolvedUser:
    """Return who a user of a container is, by the files of its root (`oci.users.resolve_user`).

    A file system of fuse-overlayfs is shown to those in its user namespace only (fuse(4)).
    """
    if machinery.rootless is not None and not os.access(root, os.X_OK):
        from longshore.engine.within import call

        found: ResolvedUser = call(machinery, "engine.roots", "user_of", root, user, (*group_add,))
        return found
    from longshore.oci.users import resolve_user

    return resolve_user(root, user, group_add)
