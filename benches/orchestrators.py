"""Times whole runs of pipelines whose stages do nothing, so that only the orchestrator's own cost shows.

usage: orchestrators.py [--bin CISTAGE] [--part chain,wide,matrix,big] [--reps 5] [--wide 500] [--matrix 10000]
                        [--gib 2] [--peers loop,ninja,snakemake,dvc] [--dir DIR] [--json OUT]

  chain   six stages in a line: cold, unchanged, with a parameter of the third stage changed
  wide    independent stages: cold, unchanged
  matrix  one stage with many branches, and half as many: unchanged run and plan, to show that both are linear
  big     one stage on a large file: first run, unchanged, touched; against b3sum, where it is installed

Python's standard library alone. A peer is run where its program is installed (ninja, snakemake, dvc; `loop` is a
shell that runs the same commands and keeps no books). Each stage adds a line to a log, by which the number of stages
that really ran is counted. Medians, with the best in brackets; CPU seconds are those of the whole process tree.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

LOG = "runs.log"


def edges(shape, n):
    """(stage, what it reads or None) in order."""
    return [(i, i - 1 if shape == "chain" and i > 1 else None) for i in range(1, n + 1)]


def shell(log, i, source, target, value):
    return f"echo {i} >> {log}; cat {source} > {target}; echo {value} >> {target}"


class Cistage:
    def __init__(self, program):
        self.program = program

    def write(self, d, shape, n, values):
        log = d / LOG
        lines = ["cistage: 1", f"name: {shape}", "stages:"]
        for i, before in edges(shape, n):
            source = "in.txt" if before is None else f"s{before}.o"
            run = shell(log, i, "{in.f}", "{out.o}", values[i])
            lines.append(f"  s{i}: {{uses: command, in: {{f: {source}}}, out: {{o: o.txt}}, with: {{run: '{run}'}}}}")
        (d / "p.yaml").write_text("\n".join(lines) + "\n")

    def write_matrix(self, d, n):
        """Half of the stages make rows, the others read them: both have n/2 branches."""
        (d / "p.yaml").write_text(
            "cistage: 1\nname: matrix\nstages:\n  a:\n    uses: synthesize\n    with: {rows: 5}\n"
            "    matrix: {seed: [%s]}\n  b:\n    uses: command\n    in: {f: a.rows}\n    out: {o: o.txt}\n"
            "    with: {run: 'head -c 4 {in.f} > {out.o}'}\n" % ", ".join(str(i) for i in range(n // 2)))

    def run(self):
        return [self.program, "run", "p.yaml", "-q"]


class Loop:
    def write(self, d, shape, n, values):
        out = [shell(d / LOG, i, "in.txt" if b is None else f"o{b}.txt", f"o{i}.txt", values[i]) for i, b in edges(shape, n)]
        (d / "loop.sh").write_text("".join(f"/bin/sh -c '{line}'\n" for line in out))

    def run(self):
        return ["/bin/sh", "loop.sh"]


class Ninja:
    def write(self, d, shape, n, values):
        text = "rule r\n  command = $cmd\n"
        for i, b in edges(shape, n):
            source = "in.txt" if b is None else f"o{b}.txt"
            text += f"build o{i}.txt: r {source}\n  cmd = {shell(d / LOG, i, source, f'o{i}.txt', values[i])}\n"
        (d / "build.ninja").write_text(text)

    def run(self):
        return ["ninja", "--quiet", "-j2"]


class Snakemake:
    def write(self, d, shape, n, values):
        text = "rule all:\n    input: %s\n" % ", ".join(f"'o{i}.txt'" for i in range(1, n + 1))
        for i, b in edges(shape, n):
            source = "in.txt" if b is None else f"o{b}.txt"
            text += f"rule s{i}:\n    input: '{source}'\n    output: 'o{i}.txt'\n    params: v={values[i]}\n"
            text += f"    shell: 'echo {i} >> {d / LOG}; cat {{input}} > {{output}}; echo {{params.v}} >> {{output}}'\n"
        (d / "Snakefile").write_text(text)

    def run(self):
        return ["snakemake", "-q", "all", "-c", "2"]


class Dvc:
    def write(self, d, shape, n, values):
        if not (d / ".dvc").exists():
            subprocess.run(["dvc", "init", "--no-scm", "-q"], cwd=d, check=True)
        stages = {}
        for i, b in edges(shape, n):
            source = "in.txt" if b is None else f"o{b}.txt"
            stages[f"s{i}"] = {"cmd": shell(d / LOG, i, source, f"o{i}.txt", "${v%d}" % i), "deps": [source],
                               "params": [f"v{i}"], "outs": [f"o{i}.txt"]}
        (d / "dvc.yaml").write_text(json.dumps({"stages": stages}))
        (d / "params.yaml").write_text(json.dumps({f"v{i}": v for i, v in values.items()}))

    def run(self):
        return ["dvc", "repro", "-q"]


PEERS = {"loop": (Loop, "sh"), "ninja": (Ninja, "ninja"), "snakemake": (Snakemake, "snakemake"), "dvc": (Dvc, "dvc")}


def timed(command, cwd, accept=(0,)):
    """(wall seconds, CPU seconds, peak resident MiB of the largest process) of a command and all it starts."""
    with tempfile.TemporaryFile() as out:
        began = time.perf_counter()
        child = subprocess.Popen(command, cwd=cwd, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - began
        code = os.waitstatus_to_exitcode(status)
        if code not in accept:
            out.seek(0)
            sys.exit(f"{command} in {cwd} ended with {code}:\n{out.read().decode(errors='replace')[-3000:]}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def ran(d):
    log = d / LOG
    count = len(log.read_text().split()) if log.exists() else 0
    log.write_text("")
    return count


class Table:
    def __init__(self):
        self.rows = {}

    def add(self, name, measured, note=""):
        wall, cpu, peak = ([m[k] for m in measured] for k in range(3))
        self.rows[name] = {"wall": statistics.median(wall), "best": min(wall), "cpu": statistics.median(cpu),
                           "peak_mib": max(peak), "all": wall, "note": note}
        print(f"{name:34} {statistics.median(wall) * 1e3:10.1f} ms  ({min(wall) * 1e3:8.1f})"
              f"  cpu {statistics.median(cpu) * 1e3:9.1f} ms  peak {max(peak):6.0f} MiB  {note}", flush=True)


def fresh(base, name):
    d = base / name
    shutil.rmtree(d, ignore_errors=True)
    d.mkdir(parents=True)
    (d / "in.txt").write_text("seed\n")
    return d


def chain_and_wide(table, base, tools, shape, n, reps):
    for name, tool in tools.items():
        cold, noop, third, counts = [], [], [], []
        for rep in range(reps):
            values = dict.fromkeys(range(1, n + 1), 1)
            # A new folder each time: ext4 is slow to give out the inodes of files deleted seconds ago.
            d = fresh(base, f"{shape}-{name}-{rep}")
            tool.write(d, shape, n, values)
            cold.append(timed(tool.run(), d))
            counts.append(ran(d))
            if name == "loop":
                continue
            # ninja and make compare times: edits are kept apart from builds.
            time.sleep(0.05 if name == "cistage" else 1.05)
            noop.append(timed(tool.run(), d))
            counts.append(ran(d))
            if shape == "chain":
                values[3] = 100 + rep
                time.sleep(0.05 if name == "cistage" else 1.05)
                tool.write(d, shape, n, values)
                third.append(timed(tool.run(), d))
                counts.append(ran(d))
        table.add(f"{shape} {n}: {name} cold", cold, f"{counts[0]} ran")
        if noop:
            table.add(f"{shape} {n}: {name} unchanged", noop, f"{counts[1]} ran")
        if third:
            table.add(f"{shape} {n}: {name} third changed", third, f"{counts[2]} ran")


def matrix(table, base, cistage, n, reps):
    for size in (n // 2, n):
        d = fresh(base, f"matrix-{size}")
        cistage.write_matrix(d, size)
        table.add(f"matrix {size}: cold", [timed(cistage.run(), d)])
        table.add(f"matrix {size}: unchanged", [timed(cistage.run(), d) for _ in range(reps)])
        table.add(f"matrix {size}: plan", [timed([cistage.program, "plan", "p.yaml", "-q"], d) for _ in range(reps)])
        shutil.rmtree(d)


def big(table, base, cistage, gib, reps):
    d = fresh(base, "big")
    with open(d / "big.bin", "wb") as file:
        block = os.urandom(1 << 20)
        for i in range(gib * 1024):
            file.write(i.to_bytes(8, "little") + block[8:])
    timed(["cat", "big.bin"], d)
    (d / "p.yaml").write_text("cistage: 1\nname: big\nstages:\n  look:\n    uses: command\n    in: {big: big.bin}\n"
                              "    out: {o: o.txt}\n    with: {run: 'head -c 8 {in.big} > {out.o}'}\n")
    plan = [cistage.program, "plan", "p.yaml", "-q"]
    if shutil.which("b3sum"):
        table.add(f"big {gib} GiB: b3sum, mapped", [timed(["b3sum", "big.bin"], d) for _ in range(reps)])
        table.add(f"big {gib} GiB: b3sum, read", [timed(["b3sum", "--no-mmap", "big.bin"], d) for _ in range(reps)])
    table.add(f"big {gib} GiB: first plan, hashes", [timed(plan, d) for _ in range(reps)])
    table.add(f"big {gib} GiB: first run, copies", [timed(cistage.run(), d)])
    table.add(f"big {gib} GiB: second run", [timed(cistage.run(), d)])
    table.add(f"big {gib} GiB: unchanged", [timed(cistage.run(), d) for _ in range(reps)])
    touched = []
    for rep in range(reps):
        past = time.time() - 1000 + rep
        os.utime(d / "big.bin", (past, past))
        # What changed within the last two seconds is hashed at each look: a file of an hour ago is the usual case.
        time.sleep(2.1)
        touched.append(timed(cistage.run(), d))
    table.add(f"big {gib} GiB: touched", touched)
    table.add(f"big {gib} GiB: after touch", [timed(cistage.run(), d) for _ in range(reps)])
    shutil.rmtree(d)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = pathlib.Path(__file__).resolve().parent.parent
    ap.add_argument("--bin", default=str(here / "target/release/cistage"))
    ap.add_argument("--part", default="chain,wide,matrix,big")
    ap.add_argument("--reps", type=int, default=5)
    ap.add_argument("--wide", type=int, default=500)
    ap.add_argument("--matrix", type=int, default=10000)
    ap.add_argument("--gib", type=int, default=2)
    ap.add_argument("--peers", default="loop,ninja", help="of: " + ", ".join(PEERS))
    ap.add_argument("--dir", help="where to work [default: a temporary folder]")
    ap.add_argument("--json", help="also write all figures here")
    args = ap.parse_args()
    cistage = Cistage(str(pathlib.Path(args.bin).resolve()))
    tools = {"cistage": cistage}
    for name in filter(None, args.peers.split(",")):
        make, program = PEERS[name]
        if shutil.which(program):
            tools[name] = make()
        else:
            print(f"{name} is not installed: left out", file=sys.stderr)
    table = Table()
    with tempfile.TemporaryDirectory(prefix="cistage-bench-", dir=args.dir) as base:
        base = pathlib.Path(base)
        print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the start")
        for part in args.part.split(","):
            if part == "matrix":
                matrix(table, base, cistage, args.matrix, args.reps)
            elif part == "big":
                big(table, base, cistage, args.gib, args.reps)
            else:
                chain_and_wide(table, base, tools, part, args.wide if part == "wide" else 6, args.reps)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(table.rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
