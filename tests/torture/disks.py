"""File systems of our own to ill-treat: ext4 and xfs in a file whose power can be cut, and small ones in memory."""
import fcntl
import os
import pathlib
import shutil
import struct
import subprocess
import time

# _IOR('X', 125, u32), which ext4 and xfs share; 2: without flushing the log, as when the power goes.
SHUTDOWN = (2 << 30) | (4 << 16) | (ord("X") << 8) | 125
WITHOUT_LOG_FLUSH = 2
# xfs makes none below 300 MB. The image is sparse.
IMAGE_BYTES = 320 << 20
# The kernel shall write nothing back by itself while a case is tried.
OPTIONS = {"ext4": "loop,commit=300", "xfs": "loop"}


def sh(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.returncode}")


def missing(kind):
    """Why there can't be such a disk here, or None."""
    if os.geteuid() != 0:
        return "mounting needs root"
    if kind in OPTIONS and shutil.which(f"mkfs.{kind}") is None:
        return f"there is no mkfs.{kind}"
    return None


class Disk:
    """A mounted file system; unmounted at the end of a `with`."""

    def __init__(self, folder, kind, options=None):
        self.kind, self.place = kind, pathlib.Path(folder) / kind
        self.image = pathlib.Path(folder) / f"{kind}.img"
        self.options = options or OPTIONS[kind]

    def __enter__(self):
        self.place.mkdir(parents=True, exist_ok=True)
        if self.kind != "tmpfs":
            with open(self.image, "wb") as image:
                image.truncate(IMAGE_BYTES)
            sh(f"mkfs.{self.kind}", "-q", self.image)
        self.mount()
        return self

    def __exit__(self, *error):
        self.unmount()
        self.image.unlink(missing_ok=True)

    def mount(self):
        sh("mount", "-t", self.kind, "-o", self.options, "tmpfs" if self.kind == "tmpfs" else self.image, self.place)

    def remount(self, options):
        sh("mount", "-o", f"remount,{options}", self.place)

    def unmount(self):
        # The last processes of a killed run may take a moment to go.
        for _ in range(100):
            try:
                return sh("umount", self.place)
            except OSError as busy:
                error = busy
                time.sleep(0.05)
        raise error

    def sync(self):
        sh("sync", "-f", self.place)

    def shut_down(self):
        """From here on the file system answers with errors; what was not made durable is lost."""
        folder = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(folder, SHUTDOWN, struct.pack("I", WITHOUT_LOG_FLUSH))
        finally:
            os.close(folder)

    def cut(self):
        """Cuts the power, and switches it on again."""
        self.shut_down()
        self.unmount()
        self.mount()
