"""Ways to damage one file, each undone at the end of its `with`, unless the program has mended the file meanwhile."""
import contextlib
import json
import os
import random

KINDS = ("a flipped bit", "a cut", "a removal", "a swap")


class Damage:
    """One way to damage a file: `kind` as above, `what` in words, `files` that it touches."""

    def __init__(self, kind, what, files, how, says_the_same=False):
        self.kind, self.what, self.files, self.how = kind, what, files, how
        # Of JSON the checksum is over what it says, not over its white space.
        self.says_the_same = says_the_same


def ways(file, others, seed):
    """All damage that is done to a file: some bits flipped, its end cut, removed, swapped with one of `others`."""
    rng, before = random.Random(f"{seed} {file.name}"), file.read_bytes()
    changes = []
    for at in sorted({0, len(before) - 1, rng.randrange(len(before))} if before else ()):
        changed = bytearray(before)
        changed[at] ^= 1 << rng.randrange(8)
        changes.append(("a flipped bit", f"a bit of byte {at} flipped", bytes(changed)))
    changes += [("a cut", f"cut by {n}", before[:-n]) for n in (1, 2) if len(before) >= n]
    for kind, what, data in changes:
        yield Damage(kind, what, [file], rewritten(file, data), says_the_same(before, data))
    yield Damage("a removal", "removed", [file], removed(file))
    others = [other for other in others if bytes_of(other) not in (None, before)]
    if others:
        other = rng.choice(others)
        yield Damage("a swap", f"swapped with {other.parent.name}/{other.name}", [file, other], swapped(file, other))


def bytes_of(file):
    """The bytes of a file; None where it is gone by now, as the index's snapshots are."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def rewritten(file, data):
    """Other bytes under the old mode and time of modification, as a careful forger would leave them."""
    before, stat = file.read_bytes(), file.stat()

    def write(these):
        file.chmod(0o644)
        file.write_bytes(these)
        file.chmod(stat.st_mode)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    write(data)
    yield
    if file.exists() and file.read_bytes() == data:
        write(before)


@contextlib.contextmanager
def removed(file):
    # Two folders up, where the program does not look.
    aside = file.parents[2] / f"{file.name}.aside"
    file.rename(aside)
    yield
    if file.exists():
        aside.unlink()
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        aside.rename(file)


@contextlib.contextmanager
def swapped(one, other):
    first, second = one.read_bytes(), other.read_bytes()
    with rewritten(one, second), rewritten(other, first):
        yield


def says_the_same(before, after):
    try:
        return json.loads(before) == json.loads(after)
    except ValueError:
        return False
