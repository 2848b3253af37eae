"""Ways to damage one file, each undone at the end of a `with`, unless the program mended the file meanwhile."""
import contextlib
import json
import os


def writable(file):
    if not os.access(file, os.W_OK) or file.stat().st_mode & 0o200 == 0:
        file.chmod(0o644)


@contextlib.contextmanager
def rewritten(file, data):
    """Other bytes under the old time of modification, as a careful forger would leave them."""
    mode, stat = file.stat().st_mode & 0o777, file.stat()
    before = file.read_bytes()

    def write(these):
        writable(file)
        file.write_bytes(these)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        file.chmod(mode)

    write(data)
    yield
    if file.exists() and file.read_bytes() == data:
        write(before)


@contextlib.contextmanager
def removed(file):
    aside = file.with_name(file.name + ".aside")
    # Beside the folder, where nobody looks.
    aside = file.parents[2] / aside.name
    file.rename(aside)
    yield
    if file.exists():
        aside.unlink()
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        aside.rename(file)


@contextlib.contextmanager
def swapped(one, other):
    data = one.read_bytes(), other.read_bytes()
    with rewritten(one, data[1]), rewritten(other, data[0]):
        yield


def flips(file, rng):
    """Files with one bit changed: of the first byte, of the last, and of one in between."""
    data = file.read_bytes()
    for at in sorted({0, len(data) - 1, rng.randrange(len(data))} if data else ()):
        changed = bytearray(data)
        changed[at] ^= 1 << rng.randrange(8)
        yield f"a bit of byte {at} flipped", bytes(changed)


def cuts(file):
    data = file.read_bytes()
    for n in (1, 2):
        if len(data) >= n:
            yield f"{n} byte{'s' * (n > 1)} cut off", data[:-n]


def reads_the_same(before, after):
    """Whether two texts of JSON say the same: their checksum is of what they say, not of its white space."""
    try:
        return json.loads(before) == json.loads(after)
    except ValueError:
        return False
