#!/usr/bin/env python3
"""The data stages at the challenge's size, side by side with the tools that people use today.

    python3 benches/data.py [--rows N] [--reps N] [--work FOLDER] [--only PART,...]

Makes a file of 6,739,258 made-up rows (810 MB) in the work folder, then runs cistage and its peers in turn and prints one line for
each comparison: the median wall time of each, their ratio, the CPU seconds, and the peak memory of the whole process tree.
polars, pandas and tokenizers are expected in the Python that $PEERS names, b3sum on PATH or in $B3SUM; a peer that is missing is
said so. Figures are those of one machine at one time: read the ratios, and the load that is printed with them.
"""
import argparse
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
CISTAGE = TARGET / "release" / "cistage"
PEERS = os.environ.get("PEERS", sys.executable)
B3SUM = os.environ.get("B3SUM") or shutil.which("b3sum")

MADE = """
cistage: 1
name: made
params: { rows: 6739258 }
stages:
  made: { uses: synthesize, with: { rows: "${rows}" } }
"""

FLOW = """
cistage: 1
name: flow
params: { file: "", seed: 42, rows: rows.rows }
stages:
  rows: { uses: import-sequences, in: { file: "${file}" } }
  tokenizer: { uses: train-tokenizer, in: { rows: rows.rows } }
  split: { uses: split, in: { rows: rows.rows }, with: { seed: "${seed}" } }
  balance:
    uses: sample-bins
    in: { rows: split.train }
    with: { per_bin: 25000, empty_bins: allow, seed: "${seed}" }
"""

POLARS_IMPORT = """
import polars as pl, sys
rows = pl.scan_csv(sys.argv[1], separator="\\t", has_header=False, new_columns=["sequence", "expression"],
                   schema_overrides=[pl.String, pl.Float64]).with_row_index("pos")
good = pl.col("sequence").str.contains("^[ACGTN]+$") & pl.col("expression").is_finite()
rows.filter(good).sink_parquet(sys.argv[2])
"""

POLARS_SPLIT = """
import math, numpy as np, polars as pl, sys
rows = pl.read_parquet(sys.argv[1])
held_out = np.zeros(len(rows), dtype=bool)
held_out[np.random.default_rng(42).permutation(len(rows))[:math.ceil(0.01 * len(rows))]] = True
rows.filter(pl.Series(held_out)).write_parquet(sys.argv[2] + ".test")
train = rows.filter(pl.Series(~held_out))
train.write_parquet(sys.argv[2] + ".train")
binned = train.with_columns(bin=pl.col("expression").floor().clip(0, 17))
drawn = binned.filter(pl.int_range(pl.len()).shuffle(seed=42).over("bin") < 25000).drop("bin")
drawn.write_parquet(sys.argv[2] + ".sample")
"""

PANDAS_SPLIT = """
import math, numpy as np, pandas as pd, sys
rows = pd.read_parquet(sys.argv[1])
held_out = np.zeros(len(rows), dtype=bool)
held_out[np.random.default_rng(42).permutation(len(rows))[:math.ceil(0.01 * len(rows))]] = True
rows[held_out].to_parquet(sys.argv[2] + ".test", compression="zstd")
train = rows[~held_out]
train.to_parquet(sys.argv[2] + ".train", compression="zstd")
bins = np.clip(np.floor(train.expression), 0, 17)
order = np.random.default_rng(42).permutation(len(train))
rank = pd.Series(1, index=order).groupby(bins.to_numpy()[order]).cumsum().sort_index().to_numpy()
train[rank <= 25000].to_parquet(sys.argv[2] + ".sample", compression="zstd")
"""

OPENS = """
import duckdb, pandas as pd, polars as pl, sys
path = sys.argv[1]
counts = [len(pd.read_parquet(path)), len(pl.read_parquet(path)),
          duckdb.sql(f"select count(*) from '{path}' where sequence is not null").fetchall()[0][0]]
sums = [pd.read_parquet(path).expression.sum(), pl.read_parquet(path)["expression"].sum()]
assert len(set(counts)) == 1 and abs(sums[0] - sums[1]) < 1e-3, (counts, sums)
print(f"pandas {pd.__version__}, polars {pl.__version__} and duckdb {duckdb.__version__} all read {counts[0]} rows")
"""


class Timed:
    """One command, measured: wall time, CPU time, and peak memory of its process tree."""

    def __init__(self, argv, **options):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.monotonic()
        # A child of its own for each, so that its peak memory is its own.
        probe = ("import resource, subprocess, sys, json; r = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL);"
                 "u = resource.getrusage(resource.RUSAGE_CHILDREN); print(json.dumps([r.returncode, u.ru_maxrss]))")
        done = subprocess.run([sys.executable, "-c", probe, *map(str, argv)], stdout=subprocess.PIPE, text=True, **options)
        self.wall = time.monotonic() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        self.code, peak = json.loads(done.stdout)
        self.peak = peak / 1024


def side_by_side(name, reps, **contenders):
    """Runs the contenders in turn `reps` times; each is a function of the repetition that gives a command."""
    seen = {who: [] for who in contenders}
    for rep in range(reps):
        for who, command in contenders.items():
            timed = Timed(command(rep))
            if timed.code != 0:
                sys.exit(f"{name}: {who} ended with {timed.code}: {' '.join(map(str, command(rep)))}")
            seen[who].append(timed)
    median = {who: statistics.median(t.wall for t in runs) for who, runs in seen.items()}
    ours = median["cistage"]
    for who, runs in seen.items():
        cpu = statistics.median(t.cpu for t in runs)
        ratio = "" if who == "cistage" else f"  {median[who] / ours:5.2f} x ours"
        print(f"  {name:<24} {who:<10} {median[who]:8.2f} s  cpu {cpu:7.2f} s  peak {max(t.peak for t in runs):6.0f} MiB{ratio}")
    sys.stdout.flush()


def run(*argv, check=True):
    done = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if check and done.returncode != 0:
        sys.exit(f"{' '.join(map(str, argv))}\n{done.stdout}{done.stderr}")
    return done


def forget(path):
    """Has the kernel drop its copy of a file: the next reader reads the disk (a virtual disk's host may still know it)."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Bench:
    def __init__(self, args):
        self.args = args
        self.work = pathlib.Path(args.work or tempfile.mkdtemp(prefix="cistage-bench-"))
        self.work.mkdir(parents=True, exist_ok=True)
        os.chdir(self.work)
        pathlib.Path("flow.yaml").write_text(FLOW)
        self.cache = self.work / "cache"
        # What another build left would be served.
        shutil.rmtree(self.cache, ignore_errors=True)

    def cistage(self, *argv, cache=None):
        return [CISTAGE, "--cache", cache or self.cache, "-q", *argv]

    def flow(self, *sets, to=None, cache=None):
        given = [word for s in sets for word in ("--set", s)]
        return self.cistage("run", "flow.yaml", *given, *(["--to", to] if to else []), cache=cache)

    def input(self):
        """The file of the challenge's size, plain and gzip, made by cistage itself."""
        if not pathlib.Path("rows.tsv").exists():
            pathlib.Path("made.yaml").write_text(MADE)
            made = Timed(self.cistage("run", "made.yaml", "--set", f"rows={self.args.rows}"))
            text = Timed(self.cistage("get", "made.rows", "rows.tsv"))
            packed = Timed(self.cistage("get", "made.rows", "rows.tsv.gz"))
            for what, timed in [("synthesize", made), ("get rows.tsv", text), ("get rows.tsv.gz", packed)]:
                print(f"  {what:<24} {'cistage':<10} {timed.wall:8.2f} s  cpu {timed.cpu:7.2f} s  peak {timed.peak:6.0f} MiB")
        # As gzip itself packs it: one member.
        if not pathlib.Path("one.tsv.gz").exists():
            subprocess.run("gzip -c rows.tsv > one.tsv.gz", shell=True, check=True)
        pathlib.Path("import.py").write_text(POLARS_IMPORT)
        pathlib.Path("split.py").write_text(POLARS_SPLIT)
        pathlib.Path("pandas_split.py").write_text(PANDAS_SPLIT)
        pathlib.Path("opens.py").write_text(OPENS)

    def fresh(self, rep):
        shutil.rmtree(self.work / "fresh", ignore_errors=True)
        return self.work / "fresh"

    def part_import(self):
        ours = lambda rep: self.flow("file=./rows.tsv", to="rows", cache=self.fresh(rep))
        side_by_side("import plain", self.args.reps, cistage=ours,
                     polars=lambda rep: [PEERS, "import.py", "rows.tsv", "polars.parquet"])
        ours = lambda rep: self.flow("file=./one.tsv.gz", to="rows", cache=self.fresh(rep))
        side_by_side("import gzip", self.args.reps, cistage=ours,
                     gzip=lambda rep: ["gzip", "-dc", "one.tsv.gz"])

    def part_split(self):
        run(*self.flow("file=./rows.tsv", to="rows"))
        run(*self.cistage("get", "rows.rows", "rows.parquet"))
        # Another seed each time: nothing is served from the cache.
        ours = lambda rep: self.flow("file=./rows.tsv", f"seed={1000 + rep}", to="balance")
        side_by_side("split and sample", self.args.reps, cistage=ours,
                     polars=lambda rep: [PEERS, "split.py", "rows.parquet", "polars"],
                     pandas=lambda rep: [PEERS, "pandas_split.py", "rows.parquet", "pandas"])
        for output in ["rows.rows", "split.train", "split.test", "balance.rows"]:
            run(*self.cistage("get", output, "opened.parquet"))
            print(f"  {output}: {run(PEERS, 'opens.py', 'opened.parquet').stdout.strip()}")

    def part_tokens(self):
        run(*self.flow("file=./rows.tsv", to="tokenizer"))
        run(*self.cistage("get", "rows.rows", "rows.parquet"))
        run(*self.cistage("get", "tokenizer.tokenizer", "tokenizer.json"))
        bench = ["cargo", "bench", "--locked", "--manifest-path", ROOT / "Cargo.toml", "--bench", "data", "--"]
        print(run(*bench, self.work / "rows.parquet", self.work / "tokenizer.json").stdout.strip())

    def part_noop(self):
        """The rerun on the unchanged file, and after a touch."""
        whole = self.flow("file=./rows.tsv")
        run(*whole)
        time.sleep(3)
        run(*whole)
        print(f"  no-op: {statistics.median(Timed(whole).wall for _ in range(5)) * 1000:.0f} ms")
        os.utime("rows.tsv")
        touched = run(CISTAGE, "--cache", self.cache, "--format", "json", *whole[4:])
        last = json.loads(touched.stdout.splitlines()[-1])
        print(f"  after touch: {last['seconds']:.2f} s, {last['ran']} ran, {last['hit']} hit")

    def part_threads(self):
        """One thread and two: equal digests, whatever the input's packing."""
        seen = set()
        for threads, file in [(1, "rows.tsv"), (2, "rows.tsv"), (2, "one.tsv.gz"), (2, "rows.tsv.gz")]:
            argv = self.flow(f"file=./{file}", cache=self.fresh(0)) + ["--threads", str(threads)]
            events = run(*argv[:3], "--format", "json", *argv[4:]).stdout.splitlines()
            found = {}
            for event in map(json.loads, events):
                if event["event"] == "stage-finished":
                    found[event["stage"]] = {port: made["digest"] for port, made in event["outputs"].items()}
            seen.add(json.dumps(found, sort_keys=True))
        print(f"  1 and 2 threads, plain, gzip and many-member gzip: {len(seen)} different set of digests")
        if len(seen) != 1:
            sys.exit("the digests differ")

    def part_limits(self):
        """A bad line near the end, three times the rows, and the disk that the whole takes."""
        with open("rows.tsv", "rb") as source, open("bad.tsv", "wb") as target:
            shutil.copyfileobj(source, target)
            target.write(b"ACGTXACGT\t3\nACGT\t4\n")
        failed = run(*self.flow("file=./bad.tsv", to="rows", cache=self.fresh(0)), check=False)
        place = f"bad.tsv:{self.args.rows + 1}:5: "
        named = place in failed.stderr
        print(f"  bad line: exit {failed.returncode}, {'names' if named else 'DOES NOT NAME'} {place.rstrip(': ')}")
        os.remove("bad.tsv")
        with open("triple.tsv", "wb") as target:
            for _ in range(3):
                with open("rows.tsv", "rb") as source:
                    shutil.copyfileobj(source, target)
        triple = Timed(self.flow("file=./triple.tsv", to="rows", cache=self.fresh(0)))
        print(f"  import of {3 * self.args.rows} rows: {triple.wall:.1f} s, peak {triple.peak:.0f} MiB")
        os.remove("triple.tsv")
        cache = self.fresh(0)
        run(*self.flow("file=./rows.tsv", cache=cache))
        used = sum(f.stat().st_blocks * 512 for f in cache.rglob("*") if f.is_file())
        print(f"  import, split and sample take {used / os.path.getsize('rows.tsv'):.2f} x the input on disk")
        if not named or failed.returncode != 2:
            sys.exit("a bad line must be named")

    def part_hash(self):
        """2 GiB: the first look at a file against b3sum, from memory and from the disk."""
        if not pathlib.Path("big.bin").exists():
            subprocess.run("head -c 2G /dev/urandom > big.bin", shell=True, check=True)
        pathlib.Path("big.yaml").write_text(
            'cistage: 1\nname: big\nstages:\n  s:\n    uses: command\n    in: { big: ./big.bin }\n    out: { o: o.txt }\n'
            '    with: { run: "echo done > {out.o}" }\n')
        for state, prepare in [("warm", lambda: None), ("cold", lambda: forget("big.bin"))]:
            contenders = {"cistage": lambda rep: prepare() or self.cistage("plan", "big.yaml", cache=self.fresh(rep))}
            if B3SUM:
                contenders["b3sum"] = lambda rep: prepare() or [B3SUM, "big.bin"]
            else:
                print("  b3sum is missing: set B3SUM")
            side_by_side(f"hash 2 GiB {state}", self.args.reps, **contenders)


PARTS = ["import", "split", "tokens", "noop", "threads", "limits", "hash"]


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--rows", type=int, default=6_739_258)
    args.add_argument("--reps", type=int, default=3)
    args.add_argument("--work", help="a folder to keep the files in; a temporary one otherwise")
    args.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    args = args.parse_args()
    bench = Bench(args)
    versions = run(PEERS, "-c", "import polars, pandas; print('polars', polars.__version__, 'pandas', pandas.__version__)")
    print(run(CISTAGE, "--version").stdout.strip(), "|", versions.stdout.strip(), "|", run("gzip", "--version").stdout.split("\n")[0],
          "|", run(B3SUM, "--version").stdout.strip() if B3SUM else "no b3sum")
    bench.input()
    for part in args.only.split(","):
        print(f"{part}, load {os.getloadavg()[0]:.1f}:")
        getattr(bench, f"part_{part}")()
    if not args.work:
        shutil.rmtree(bench.work)


if __name__ == "__main__":
    main()
