"""Workspaces from which an enumeration starts, each made once and copied for every case."""
import pipelines
from workspace import Workspace

OLD, NEW = ("--set", "salt=1"), ("--set", "salt=0")
GC = ("cache", "gc", "--apply", "--keep-runs", "0", "--grace", "0")


class State:
    """A workspace, the command that is disturbed in it, and whether its cache is sound before."""

    def __init__(self, title, workspace, command, sound=True):
        self.title, self.workspace, self.command, self.sound = title, workspace, command, sound


def fresh(env, name):
    return Workspace(env.program, env.work / name, pipelines.SMALL)


def flip(file):
    """Changes one bit in the middle of a read-only file."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)


def prefixes(env):
    """A run that finds none, one, two or all of its stages done."""
    run = Workspace.run_args(*NEW)
    yield State("a first run", fresh(env, "none"), run)
    for stage in pipelines.STAGES[:-1]:
        ws = fresh(env, f"to-{stage}")
        ws.run(*NEW, "--to", stage)
        yield State(f"a run after `run p.yaml --to {stage}`", ws, run)
    ws = fresh(env, "all")
    ws.run(*NEW)
    yield State("a run of hits", ws, run)


def mending(env):
    """A run that meets a damaged object and a damaged record."""
    ws = fresh(env, "damaged")
    done = ws.run(*NEW)
    flip(ws.object(done.digests["b.o"]))
    key = next(e["key"] for e in done.finished if e["stage"] == "c").removeprefix("blake3:")
    flip(ws.cache / "actions" / key[:2] / f"{key[2:]}.json")
    return State("a run that meets damage", ws, ws.run_args(*NEW), sound=False)


def collecting(env):
    """gc that can take most of two runs."""
    ws = fresh(env, "collected")
    ws.run(*OLD)
    ws.run(*NEW)
    return State("cache gc", ws, list(GC))
