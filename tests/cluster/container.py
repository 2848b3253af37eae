#!/usr/bin/env python3
"""The program in a container, started by the nodes of a real Slurm: the same bytes as without either.

    python3 tests/cluster/container.py --bin BIN [--image NAME] [--build "--build-arg RUNTIME=python3"]

Builds the image from `Containerfile` where there is none of that name. Needs buildah, munged, slurmctld and slurmd (Debian: buildah, slurm-wlm,
munge). Ends with 1 where anything is not as it should be.
"""
import argparse
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

from check import COMMAND, ROOT, SITE, TRAINING, Folder, Problem, expect
from slurm import Cluster

# What the nodes start: it runs the program in a container that was made before.
WRAPPER = """#!/bin/bash
slurm=()
for name in ${{!SLURM_@}}; do slurm+=("$name=${{!name}}"); done
exec buildah run {options} -v {work}:{work} {container} -- env "${{slurm[@]}}" cistage "$@"
"""


def buildah(*words, **options):
    return subprocess.run(["buildah", *words], check=True, capture_output=True, text=True, **options).stdout.strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, type=pathlib.Path)
    parser.add_argument("--image", default="localhost/cistage")
    parser.add_argument("--build", default="", help="more options of `buildah build`")
    parser.add_argument("--base-port", type=int, default=17400)
    args = parser.parse_args()
    args.bin = args.bin.resolve()
    path = os.environ["PATH"] + ":/usr/sbin"
    missing = [name for name in ("buildah", "munged", "slurmctld", "slurmd") if not shutil.which(name, path=path)]
    if missing:
        print(f"SKIPPED: {', '.join(missing)} not installed (Debian: apt install buildah slurm-wlm munge)")
        return
    if subprocess.run(["buildah", "inspect", "--type", "image", args.image], capture_output=True, check=False).returncode:
        subprocess.check_call(["buildah", "build", *shlex.split(args.build), "-t", args.image, str(ROOT)])
    work = pathlib.Path(tempfile.mkdtemp(prefix="cistage-container-"))
    container = buildah("from", args.image)
    program = work / "program"
    program.write_text(WRAPPER.format(work=work, container=container, options=os.environ.get("BUILDAH_RUN", "")))
    program.chmod(0o755)
    cluster = Cluster(work / "slurm", port=args.base_port)
    bad = 0
    try:
        print("  " + buildah("run", container, "--", "cistage", "--version").replace("\n", ", "))
        cluster.up()
        site = SITE + f'program = "{program}"\nsetup = ["export STORAGE_DRIVER={os.environ.get("STORAGE_DRIVER", "")} BUILDAH_ISOLATION={os.environ.get("BUILDAH_ISOLATION", "")}"]\n'
        local = Folder(args, cluster, work, "local", TRAINING).run(executor="local")
        inside = Folder(args, cluster, work, "inside", TRAINING, site).run()
        expect(inside.digests() == local.digests(), "the digests are others than without a container")
        places = inside.places()
        again = inside.run(executor="local")
        expect(set(again.outcomes().values()) == {"hit"}, f"outside: {again.outcomes()}")
        print(f"  ok   {len(local.digests())} outputs: equal digests; a run outside is served them; {', '.join(places)}")
        folder = Folder(args, cluster, work, "command", COMMAND, site).run("--set", "script=cat /etc/hostname; echo printed")
        expect("printed" in subprocess.check_output([args.bin, "-C", folder.dir, "logs", "work"], text=True), "its log is missing")
        print("  ok   a command, and what it printed")
        folder = Folder(args, cluster, work, "interrupted", TRAINING, site)
        run = folder.start("--on-interrupt", "cancel")
        folder.training()
        run.send_signal(signal.SIGINT)
        folder.finish(run, 130)
        folder.all_jobs_end()
        folder.run()
        expect(any("resumed at step" in note for note in folder.notes()), f"not resumed: {folder.notes()}")
        expect(folder.digests() == local.digests(), "resumed: the digests are others")
        print("  ok   Ctrl-C with --on-interrupt cancel reaches the program: it saved its state, and resumed from it to the same digests")
    except (Problem, subprocess.SubprocessError) as problem:
        bad, detail = 1, getattr(problem, "stderr", "")
        print(f"  BAD  {problem} {detail}")
    finally:
        cluster.down()
        time.sleep(0.5)
        buildah("rm", container)
    print(f"{bad} problems")
    sys.exit(bad)


if __name__ == "__main__":
    main()
