"""Disks that really fail: one in memory that is too small, in bytes and in files, one that is read-only, one that dies
under a run, and a full one behind standard error and standard output.

The command fails clearly, nothing is damaged, and once the disk is well again the next run ends as if nothing had happened.
"""
import disks
import pipelines
import states
from errors_injected import judge
from reference import Reference
from workspace import Answer, Workspace, answer

KIB = 1 << 10
READERS = (("plan", "p.yaml", *states.NEW), ("audit", "c.o"), ("runs",), ("metrics",), ("cache", "verify"), ("cache", "du"))


def run(part, env):
    expected = Reference(states.fresh(env, "undisturbed"), states.NEW, pipelines.PUBLISHED)
    for what, test in (("a small tmpfs", too_small), ("a read-only tmpfs", read_only), ("an ext4 that dies", dying)):
        kind = "ext4" if "ext4" in what else "tmpfs"
        if why := disks.missing(kind):
            part.skip(what, why)
            continue
        try:
            test(part, env, expected)
        except OSError as error:
            part.skip(what, error)
    full_streams(part, env, expected)


def too_small(part, env, expected):
    # From where nothing fits to where all does, a page or a few files at a time.
    sweeps = {"bytes": [f"size={n}k" for n in range(8, 200, 4)], "files": [f"nr_inodes={n}" for n in range(4, 130, 3)]}
    for what, sizes in sweeps.items():
        failed = 0
        with part.group(f"a full disk, in {what}") as group:
            for size in sizes:
                with disks.Disk(env.work, "tmpfs", size) as disk:
                    try:
                        ws = Workspace(env.program, disk.place / "w", pipelines.SMALL)
                    except OSError:
                        continue
                    said = ws.run(*states.NEW)
                    failed += said.code != 0
                    problems = judge(said) + ws.damage()
                    disk.remount("size=64m,nr_inodes=10000")
                    problems += expected.differences(ws, ws.run(*states.NEW)) + ws.damage()
                    group.case(f"mount -t tmpfs -o {size}; cistage run", problems)
            group.aside = f"{failed} of the runs failed"
        part.control(f"a full disk, in {what}, stops some runs and not all", 0 < failed < len(sizes))


def read_only(part, env, expected):
    with disks.Disk(env.work, "tmpfs", "size=64m") as disk, part.group("a read-only disk") as group:
        ws = Workspace(env.program, disk.place / "w", pipelines.SMALL)
        ws.run(*states.NEW)
        before = {command: ws.call(*command) for command in READERS}
        disk.remount("ro")
        for command in READERS:
            after = ws.call(*command)
            same = (after.code, after.stdout) == (before[command].code, before[command].stdout)
            group.case(f"cistage {' '.join(command)}", [] if same else [f"answers otherwise: {after.code} {after.stderr}"])
        for args in (states.NEW, states.OLD):
            said = ws.run(*args)
            refused = [] if said.code in (1, 2) else [f"a run ended with {said.code}"]
            group.case(f"cistage run {' '.join(args)}", refused + judge(said))
        disk.remount("rw")
        group.case("cistage run, written to again", expected.go_on(ws, states.NEW))


def dying(part, env, expected):
    """Every call fails from the N-th event of the run on; the run itself lives, and has to end by itself."""
    with disks.Disk(env.work, "ext4") as disk, part.group("a disk that dies under a run") as group:
        for n in range(1, 9):
            ws = Workspace(env.program, disk.place / "w", pipelines.SMALL)
            disk.sync()
            process = ws.start(*ws.run_args(*states.NEW))
            for _ in range(n):
                process.stdout.readline()
            disk.shut_down()
            said = answer(process)
            problems = judge(said)
            disk.unmount()
            disk.mount()
            group.case(f"ext4 shut down after {n} events (the run: {said.code})", problems + expected.go_on(ws, states.NEW))


def full_streams(part, env, expected):
    """A full disk behind the streams: what can't be said must not become a panic."""
    with part.group("a full disk behind the streams") as group:
        for stream in ("stdout", "stderr"):
            for command in (["run", "p.yaml"], ["run", "p.yaml", "--format", "json"], ["run", "absent.yaml"], ["runs"]):
                ws = states.fresh(env, "streams")
                with open("/dev/full", "w") as full:
                    process = ws.start(*command, **{stream: full})
                    out, err = process.communicate()
                said = Answer(process.returncode, out or "", err or "")
                problems = judge(said, could_speak=stream == "stdout")
                group.case(f"cistage {' '.join(command)} {'2' if stream == 'stderr' else ''}>/dev/full", problems)
