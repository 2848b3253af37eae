"""Kills, power cuts, failing disks, damage and crowds against the program and its cache, from outside.

usage: run.py --bin BIN [--part power,kills,errors,tamper,crowd,index] [--rounds N] [--seed N] [--work DIR] [--json FILE]

  power   the power is cut after every acknowledgement, on ext4 and xfs (3 rounds, with and without gc)
  kills   kill -9 at random moments (500 rounds), and at the N-th of every system call
  errors  every system call fails at its N-th time; full, read-only and dying disks
  tamper  every file of a real run is damaged: found, not served, made again (2 repairs of each kind)
  crowd   eight runs at once on one cache, one of them killed (50 rounds); gc late by a run
  index   the index is deleted, filled with garbage, locked

Python's standard library alone. Some parts need root, loop devices, mkfs.ext4, mkfs.xfs or strace: where one is absent,
SKIPPED says so. Each part first puts a fault there of its own, which it has to notice. Ends with 1 where any part found
a violation.
"""
import argparse
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
from types import SimpleNamespace

# The checkout stays as it is.
sys.dont_write_bytecode = True

import crowd
import errors_disk
import errors_injected
import gc_late
import index
import kills_enumerated
import kills_random
import power
import tamper
from tally import Part

PARTS = {
    "power": [power],
    "kills": [kills_random, kills_enumerated],
    "errors": [errors_injected, errors_disk],
    "tamper": [tamper],
    "crowd": [crowd, gc_late],
    "index": [index],
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, type=pathlib.Path)
    parser.add_argument("--part", default=",".join(PARTS), help="names, by commas")
    parser.add_argument("--rounds", type=int, help="how often what is random is tried; each part has a default")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=pathlib.Path, help="where to work: some hundred MB; kept")
    parser.add_argument("--json", type=pathlib.Path, help="where to write all of it")
    args = parser.parse_args()
    args.part = args.part.split(",")
    if unknown := set(args.part) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    return args


def main():
    args = arguments()
    # So that what is mounted is unmounted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    work = (args.work or pathlib.Path(tempfile.mkdtemp(prefix="torture-"))).resolve()
    program = args.bin.resolve()
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"{said}, seed {args.seed}, in {work}", flush=True)
    parts = []
    for name in args.part:
        part = Part(name)
        parts.append(part)
        env = SimpleNamespace(program=program, work=work / name, rounds=args.rounds, seed=args.seed)
        shutil.rmtree(env.work, ignore_errors=True)
        env.work.mkdir(parents=True)
        for module in PARTS[name]:
            module.run(part, env)
        part.end()
    if args.json:
        args.json.write_text(json.dumps({part.name: part.to_json() for part in parts}, indent=1) + "\n")
    if args.work is None:
        shutil.rmtree(work, ignore_errors=True)
    skipped = [f"{part.name}, {what}" for part in parts for what in part.skipped]
    if skipped:
        print("SKIPPED:", *skipped, sep="\n  ")
    violations = sum(len(part.violations) for part in parts)
    print(f"{sum(part.tried for part in parts)} tried, {violations} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
