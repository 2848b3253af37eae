#!/usr/bin/env python3
"""Training and prediction, side by side with PyTorch: the same model, batch and threads, in turn.

    python3 benches/train.py --peer bench_torch_bert.py [--sizes tiny,small,base] [--precisions f32,bf16] [--reps N]

The peer is a script that trains Hugging Face's BertForSequenceClassification and prints one JSON object with samples_per_s and
peak_rss_mib; the Python that $TORCH names runs it. Ours is `cargo bench --bench train`. Prints a table: medians of the
repetitions, their ratios, and the peak memory of each. Read the ratios, and the load that is printed with them.
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TORCH = os.environ.get("TORCH", sys.executable)


def built():
    """The benchmark's program, built."""
    done = subprocess.run(["cargo", "bench", "--locked", "--bench", "train", "--no-run", "--message-format=json"], cwd=ROOT,
                          stdout=subprocess.PIPE, text=True)
    made = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    programs = [m["executable"] for m in made if m.get("executable") and m["target"]["name"] == "train"]
    return programs[-1] if programs else sys.exit("the benchmark was not built")


def ours(program, size, threads, precision):
    """Samples/s of training and of inference, and the peak memory in MiB."""
    probe = ("import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True);"
             "print(done.stdout, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)")
    words = [program, size, str(threads), precision]
    text = subprocess.run([sys.executable, "-c", probe, *words], stdout=subprocess.PIPE, text=True).stdout
    seen = re.findall(r"(?:training|inference): ([\d.]+) samples/s", text)
    if len(seen) != 2:
        sys.exit(f"{' '.join(words)}\n{text}")
    return float(seen[0]), float(seen[1]), int(text.split()[-1])


def torch(peer, size, threads, precision, *words):
    """Samples/s and peak memory in MiB of the peer."""
    dtype = {"f32": "fp32", "bf16": "bf16"}[precision]
    argv = [TORCH, peer, "--size", size, "--threads", str(threads), "--dtype", dtype, *words]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(argv)}\n{done.stderr}")
    made = json.loads(done.stdout.splitlines()[-1])
    return made["samples_per_s"], made["peak_rss_mib"], made["torch"]


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--peer", required=True, help="bench_torch_bert.py")
    args.add_argument("--sizes", default="tiny,small,base")
    args.add_argument("--precisions", default="f32,bf16")
    args.add_argument("--threads", type=int, default=os.cpu_count())
    args.add_argument("--reps", type=int, default=3)
    args = args.parse_args()
    program = built()
    print(f"{args.threads} threads, batches of 36 rows of 110 tokens, samples/s; training against torch eager, inference against sdpa")
    for size in args.sizes.split(","):
        for precision in args.precisions.split(","):
            load = os.getloadavg()[0]
            trained, predicted, version = [], [], ""
            for _ in range(args.reps):
                train, infer, peak = ours(program, size, args.threads, precision)
                their, their_peak, version = torch(args.peer, size, args.threads, precision)
                # Its faster way to train in bf16 and to predict.
                sdpa, _, _ = torch(args.peer, size, args.threads, precision, "--mode", "infer", "--attn", "sdpa")
                trained.append((train, their, peak, their_peak))
                predicted.append((infer, sdpa))
            median = [statistics.median(column) for column in zip(*trained)] + [statistics.median(c) for c in zip(*predicted)]
            train, their, peak, their_peak, infer, sdpa = median
            print(f"{size:<6} {precision:<5} training {train:8.1f} / torch {their:8.1f} = {train / their:5.2f} x   "
                  f"inference {infer:8.1f} / {sdpa:8.1f} = {infer / sdpa:5.2f} x   "
                  f"peak {peak:6.0f} / {their_peak:6.0f} MiB = {peak / their_peak:4.2f} x   (torch {version}, load {load:.1f})")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
