"""Shares caches through real servers: S3 (moto, s3s-fs), Azure (Azurite), a plain web server, and a stub of Google's.

    python tests/cluster/remote.py --bin target/release/cistage [--s3s-fs PROGRAM] [--azurite PROGRAM] [--before PROGRAM] [--part NAME]

Prints one line for each check, and figures of pushing and pulling beside boto3 and the AWS command line. Needs from PyPI:
moto[s3], flask, flask-cors, awscli, boto3. Full disks are made by root alone. Exit code 1 where a check fails.
"""

import argparse
import base64
import concurrent.futures
import datetime
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import gcs_stub

SECRET = "Th1s/must+never=appear"
# One output of some 120 MB, a folder, and what is made of both.
PIPELINE = """
cistage: 1
name: share
params: { lines: 15000000 }
stages:
  large: { uses: command, out: { o: large.txt }, with: { run: "seq {param.lines} > {out.o}" } }
  folder: { uses: command, out: { o: d }, with: { run: "mkdir d; for i in $(seq 40); do echo $i > d/$i; done" } }
  last: { uses: command, in: { l: large.o, d: folder.o }, out: { o: o.txt }, with: { run: "tail -n 1 {in.l} > {out.o}; ls {in.d} | wc -l >> {out.o}" } }
publish: { out.txt: last.o }
"""
HITS = {"large": "hit", "folder": "hit", "last": "hit"}
failures = []
figures = {}


def told(what, right, detail=""):
    """Prints one check, and remembers a failure."""
    print(f"{'ok  ' if right else 'FAIL'} {what}{': ' + str(detail) if detail and not right else ''}", flush=True)
    if not right:
        failures.append(what)


def figure(what, value):
    figures[what] = value
    print(f"     {what}: {value}", flush=True)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port, seconds=60):
    end = time.time() + seconds
    while time.time() < end:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit(f"no server came up at port {port}")


class Lab:
    """Machines: caches that know nothing of one another, in one working directory."""

    def __init__(self, program, remote, environment, small=False):
        self.program, self.remote = program, remote
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="cistage-remote-"))
        text = PIPELINE.replace("15000000", "100000") if small else PIPELINE
        (self.dir / "p.yaml").write_text(text)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "AZURE_", "GOOGLE_", "CISTAGE_"))},
            "XDG_CONFIG_HOME": str(self.dir / "config"),
            "HOME": str(self.dir),
            **environment,
        }
        self("keys", "init", "--key", "lab.pem")
        self.toml()

    def toml(self, remote=None):
        (self.dir / "cistage.toml").write_text(f'remote = "{remote or self.remote}"\ntrust = ["lab.pem.pub"]\n')

    def __call__(self, *args, cache="a", environment=None, check=True, program=None):
        command = [program or self.program, "--cache", cache, *args]
        done = subprocess.run(command, cwd=self.dir, env={**self.environment, **(environment or {})}, capture_output=True, text=True)
        if check and done.returncode:
            print(done.stdout + done.stderr, file=sys.stderr)
            raise SystemExit(f"{command} ended with {done.returncode}")
        return done

    def run(self, cache, *args, environment=None):
        done = self("run", "p.yaml", "--format", "json", *args, cache=cache, environment=environment)
        events = [json.loads(line) for line in done.stdout.splitlines()]
        outcomes = {e["stage"]: e["outcome"] for e in events if e["event"] == "stage-finished"}
        return outcomes, [e["message"] for e in events if e["event"] == "warning"]

    def push(self, cache="a", **more):
        return json.loads(self("cache", "push", "--key", "lab.pem", "--format", "json", cache=cache, **more).stdout)

    def pull(self, cache, **more):
        return json.loads(self("cache", "pull", "--format", "json", cache=cache, **more).stdout)

    def object(self, cache, output):
        made = json.loads(self("audit", output, "--format", "json", cache=cache).stdout)["artifact"]["digest"]
        digest = made.removeprefix("blake3:")
        return f"{digest[:2]}/{digest[2:]}"

    def action(self, cache, output):
        key = json.loads(self("audit", output, "--format", "json", cache=cache).stdout)["made_by"]["key"].removeprefix("blake3:")
        return f"{key[:2]}/{key[2:]}"

    def leaks(self, secret):
        """Files in which a secret can be read."""
        return [path for path in self.dir.rglob("*") if path.is_file() and path.stat().st_size < 1 << 22 and secret.encode() in path.read_bytes()]

    def close(self):
        shutil.rmtree(self.dir, ignore_errors=True)


def sharing(lab, name, writes=("--remote-mode", "write", "--key", "lab.pem")):
    """Two machines, one of which executes and shares, the other of which is served."""
    outcomes, warnings = lab.run("a", *writes)
    told(f"{name}: the first machine executes and adds", set(outcomes.values()) == {"ran"} and not warnings, (outcomes, warnings))
    outcomes, warnings = lab.run("b")
    told(f"{name}: the second executes nothing", outcomes == HITS and not warnings, (outcomes, warnings))
    audit = lab("audit", "out.txt", "--verify", cache="b").stdout
    told(f"{name}: its lineage says from where, and holds", f"from {lab.remote}, signed by" in audit and "verified" in audit, audit)
    told(f"{name}: its cache is whole", lab("cache", "verify", cache="b", check=False).returncode == 0)


def boto(endpoint, secret="secret"):
    import boto3
    from botocore.config import Config

    return boto3.client("s3", endpoint_url=endpoint, aws_access_key_id="AKIDKEY", aws_secret_access_key=secret, region_name="us-east-1",
                        config=Config(s3={"addressing_style": "path"}))


def aws(port, secret="secret"):
    return {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "AKIDKEY", "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1"}


def speed(size, seconds):
    return f"{size / 1e6:.0f} MB in {seconds:.2f} s, {size / 1e6 / seconds:.0f} MB/s"


def quickest(size, work, rounds=3):
    """The best of some rounds."""
    seconds = []
    for nth in range(rounds):
        began = time.time()
        work(nth)
        seconds.append(time.time() - began)
    return speed(size, min(seconds))


def throughput(lab, name, s3, port, bucket, before, secret="secret"):
    """Push and pull of one run, beside the same files by boto3 and the AWS command line: the best of three rounds each."""
    size = (lab.dir / "a/objects" / lab.object("a", "large.o")).stat().st_size

    # Short names: s3s-fs keeps them in names of files. In turns: other work on the machine then slows all alike.
    programs = {"": lab.program, "before: ": before} if before else {"": lab.program}
    took = {}
    for nth in range(3):
        for what, program in programs.items():
            prefix = f"{'old' if what else 'new'}{nth}"
            lab.toml(f"s3://{bucket}/{prefix}")
            pushed, pulled = lab.push(program=program), lab.pull(f"pulled-{prefix}", program=program)
            assert min(pushed["bytes"], pulled["bytes"]) > 1e8, (pushed, pulled)
            shutil.rmtree(lab.dir / f"pulled-{prefix}")
            took.setdefault(f"{what}push", []).append(pushed["seconds"])
            took.setdefault(f"{what}pull", []).append(pulled["seconds"])
    for what, seconds in took.items():
        figure(f"{name} {what}", speed(size, min(seconds)))
    lab.toml(f"s3://{bucket}/new0")
    again = lab.push()
    told(f"{name}: a push of what is there sends nothing", (again["objects"], again["records"], again["bytes"]) == (0, 0, 0), again)
    figure(f"{name} push of what is there", f"{again['present']} objects looked for in {again['seconds']:.2f} s")
    # The same files, eight at a time, as many as this program takes.
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="new0/")
    keys = [found["Key"] for page in pages for found in page["Contents"]]
    folder = lab.dir / "peer"
    for key in keys:
        (folder / key).parent.mkdir(parents=True, exist_ok=True)

    def each(work):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(work, keys))

    figure(f"{name} boto3 download", quickest(size, lambda _: each(lambda key: s3.download_file(bucket, key, str(folder / key)))))
    figure(f"{name} boto3 upload", quickest(size, lambda nth: each(lambda key: s3.upload_file(str(folder / key), bucket, f"peer{nth}{key}"))))
    cli = pathlib.Path(sys.executable).with_name("aws")
    if cli.exists():
        def copy(*ends):
            subprocess.run([cli, "s3", "cp", "--quiet", "--recursive", *map(str, ends)], check=True, env={**lab.environment, **aws(port, secret)})

        figure(f"{name} aws s3 cp download", quickest(size, lambda nth: copy(f"s3://{bucket}/new0", lab.dir / f"cli{nth}")))
        figure(f"{name} aws s3 cp upload", quickest(size, lambda nth: copy(folder / "new0", f"s3://{bucket}/cli{nth}")))
    lab.toml()


class Tap:
    """Stands before a server: tells which parts of uploads come by, and lets so many bytes each second through."""

    def __init__(self, server):
        self.server, self.parts, self.ranges = server, [], 0
        # Bytes each second that all send together, and that each connection receives.
        self.rate, self.each = None, None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.lock, self.free_at = threading.Lock(), 0.0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            try:
                server = socket.create_connection(("127.0.0.1", self.server))
            except OSError:
                client.close()
                continue
            threading.Thread(target=self.pass_on, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self.pass_on, args=(server, client, False), daemon=True).start()

    def wait_turn(self, size):
        with self.lock:
            self.free_at = max(self.free_at, time.time()) + size / self.rate
            until = self.free_at
        time.sleep(max(0.0, until - time.time()))

    def pass_on(self, source, sink, counts):
        tail = b""
        try:
            while chunk := source.recv(1 << 16):
                if counts:
                    seen, tail = len(tail), tail + chunk
                    for found in re.finditer(rb"PUT [^ \r\n]*(?:partNumber=(\d+)|comp=block&)[^\r\n]*\r\n", tail):
                        if found.end() > seen:
                            # Blocks of Azure have no numbers.
                            self.parts.append(int(found[1]) - 1 if found[1] else None)
                    self.ranges += len([found for found in re.finditer(rb"(?i)\r\nrange: bytes=", tail) if found.end() > seen])
                    tail = tail[-2048:]
                    if self.rate:
                        self.wait_turn(len(chunk))
                elif self.each:
                    time.sleep(len(chunk) / self.each)
                sink.sendall(chunk)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def both(lab, name, tap):
    """Two processes send the same large object from one cache."""
    lab.toml(f"{lab.remote.rpartition('/')[0]}/both")
    tap.rate, tap.parts = 60e6, []
    command = [lab.program, "--cache", "a", "cache", "push", "--key", "lab.pem"]
    pushes = [subprocess.Popen(command, cwd=lab.dir, env=lab.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [push.communicate() for push in pushes]
    told(f"{name}: two processes push the same at once, and both end well", [push.returncode for push in pushes] == [0, 0], said)
    tap.rate = None
    outcomes, warnings = lab.run("served-both")
    told(f"{name}: and what they sent is whole", outcomes == HITS and not warnings and not list((lab.dir / "a/uploads").iterdir()), (outcomes, warnings))
    figure(f"{name} two at once", f"{len(tap.parts)} parts were sent")
    lab.toml()


def pulled_through(lab, name, tap, prefix, before=None):
    """A large object comes in pieces."""
    lab.toml(f"{lab.remote.rpartition('/')[0]}/{prefix}")
    tap.ranges = 0
    lab.pull(f"pieces-{prefix}")
    told(f"{name}: a large object comes in pieces", tap.ranges >= 14, tap.ranges)
    # As from a far store, whose connections are slow, each by itself.
    tap.each = 20e6
    for what, program in (("", lab.program), ("before: ", before)):
        if program:
            pulled = lab.pull(f"each-{prefix}{what[:3]}", program=program)
            figure(f"{name} {what}pull at 20 MB/s for each connection", speed(pulled["bytes"], pulled["seconds"]))
    tap.each = None
    lab.toml()


def noted(lab, cache="a"):
    """The parts that the notes of a cache name, and the notes."""
    notes = list((lab.dir / cache / "uploads").glob("*.json"))
    parts = [int(number) for note in notes for number in json.loads(note.read_text())["upload"]["parts"]]
    return sorted(parts), notes


def resuming(lab, name, tap, prefix, breaks, mends, is_forgotten=False):
    """A push that breaks off in the middle of a large object, and the next one. `breaks` is given the process."""
    lab.toml(f"{lab.remote.rpartition('/')[0]}/{prefix}")
    large = (lab.dir / "a/objects" / lab.object("a", "large.o")).stat().st_size
    count = -(-large // (8 << 20))
    tap.rate, tap.parts = 30e6, []
    push = subprocess.Popen([lab.program, "--cache", "a", "cache", "push", "--key", "lab.pem"], cwd=lab.dir, env=lab.environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.time() + 60
    while time.time() < end and push.poll() is None and len(noted(lab)[0]) < 5:
        time.sleep(0.005)
    breaks(push)
    _, errors = push.communicate()
    there, notes = noted(lab)
    told(f"{name}: what was sent is noted, and no secret with it", 5 <= len(there) < count and len(notes) == 1 and SECRET not in notes[0].read_text(), (there, errors))
    mends()
    tap.rate, tap.parts = None, []
    again = lab("cache", "push", "--key", "lab.pem", "--format", "json", cache="a")
    pushed, sent = json.loads(again.stdout), tap.parts
    is_numbered = None not in sent
    sent = sorted(sent) if is_numbered else sent
    if is_forgotten:
        told(f"{name}: what the server forgot begins anew, without a word", set(sent) == set(range(count)) and not pushed["warnings"] and not again.stderr, (sent, pushed, again.stderr))
    else:
        told(f"{name}: the next push sends the missing parts alone", (sent == [n for n in range(count) if n not in there] if is_numbered else len(sent) == count - len(there)), (there, sent))
        told(f"{name}: and says so", large - len(there) * (8 << 20) <= pushed["bytes"] < large - (len(there) - 1) * (8 << 20), (there, pushed))
    figure(f"{name}", f"{len(there)} of {count} parts were there, {len(sent)} were sent, {pushed['bytes'] / 1e6:.0f} MB")
    told(f"{name}: nothing is left of the note", not list((lab.dir / "a/uploads").iterdir()), list((lab.dir / "a/uploads").iterdir()))
    outcomes, warnings = lab.run(f"served-{prefix}")
    told(f"{name}: a second machine is served", outcomes == HITS and not warnings, (outcomes, warnings))
    lab.toml()
    return errors, push.returncode


def tampering(lab, name, s3, bucket):
    """What somebody does who can write to the bucket."""
    prefix = "cache"
    object_name = f"{prefix}/objects/{lab.object('a', 'last.o')}"
    good = s3.get_object(Bucket=bucket, Key=object_name)["Body"].read()
    s3.put_object(Bucket=bucket, Key=object_name, Body=bytes([good[0] ^ 1]) + good[1:])
    outcomes, warnings = lab.run("flipped")
    told(f"{name}: a flipped bit is caught, and that stage executes", outcomes == {**HITS, "last": "ran"} and len(warnings) == 1
         and "damaged there" in warnings[0], (outcomes, warnings))
    s3.put_object(Bucket=bucket, Key=object_name, Body=good)
    # A stranger makes a record whose digests all hold, and puts it in place of the good one.
    stranger = Lab(lab.program, f"s3://{bucket}/stranger", {k: v for k, v in lab.environment.items() if k.startswith("AWS_")})
    (stranger.dir / "p.yaml").write_text((lab.dir / "p.yaml").read_text())
    stranger.run("a", "--remote-mode", "write", "--key", "lab.pem")
    record = lab.action("a", "last.o")
    found = s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/actions/{record}")["Contents"][0]["Key"]
    forged = s3.list_objects_v2(Bucket=bucket, Prefix=f"stranger/actions/{record}")["Contents"][0]["Key"]
    honest = s3.get_object(Bucket=bucket, Key=found)["Body"].read()
    body = s3.get_object(Bucket=bucket, Key=forged)["Body"].read()
    target = found if found.endswith(f"{record}.json") else f"{prefix}/actions/{record}/{pathlib.Path(forged).name}"
    if target != found:
        s3.delete_object(Bucket=bucket, Key=found)
    s3.put_object(Bucket=bucket, Key=target, Body=body)
    outcomes, warnings = lab.run("forged")
    told(f"{name}: a record of a stranger is refused", outcomes == {**HITS, "last": "ran"} and len(warnings) == 1
         and "names nobody who signed it" in warnings[0], (outcomes, warnings))
    s3.delete_object(Bucket=bucket, Key=target)
    s3.put_object(Bucket=bucket, Key=found, Body=honest)
    stranger.close()


def together(lab, name, expected, s3, bucket):
    """Eight machines push the same at once."""
    lab.toml(f"s3://{bucket}/race")
    caches = [f"racer{n}" for n in range(8)]
    for cache in caches:
        shutil.copytree(lab.dir / "b", lab.dir / cache)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        pushed = list(pool.map(lambda cache: lab.push(cache), caches))
    about = json.loads(s3.get_object(Bucket=bucket, Key="race/cistage.json")["Body"].read())
    told(f"{name}: create-only puts are {'kept' if expected else 'not kept, which is found out'}", about["create_only"] is expected, about)
    winners = sum(p["records"] for p in pushed)
    if expected:
        told(f"{name}: of eight that push the same, one adds each record", winners == 3, winners)
    listed = s3.list_objects_v2(Bucket=bucket, Prefix="race/actions/")["KeyCount"]
    told(f"{name}: each record stands there once", listed == 3, listed)
    outcomes, warnings = lab.run("after-race")
    told(f"{name}: and is served", outcomes == HITS and not warnings, (outcomes, warnings))
    lab.toml()


def moto(program, before):
    port = free_port()
    server = subprocess.Popen([pathlib.Path(sys.executable).with_name("moto_server"), "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lab = Lab(program, "s3://lab/cache", aws(port))
    try:
        wait_for(port)
        s3 = boto(f"http://127.0.0.1:{port}")
        s3.create_bucket(Bucket="lab")
        sharing(lab, "moto")
        tampering(lab, "moto", s3, "lab")
        together(lab, "moto", True, s3, "lab")
        throughput(lab, "moto", s3, port, "lab", before)
        tap = Tap(port)
        lab.environment.update(aws(tap.port))
        resuming(lab, "moto, client killed", tap, "killed", lambda push: push.kill(), lambda: None)

        resuming(lab, "moto, interrupted", tap, "interrupted", lambda push: push.send_signal(signal.SIGINT), lambda: None)
        both(lab, "moto", tap)
        pulled_through(lab, "moto", tap, "killed", before)
        lab.environment.update(aws(port))
        plan = json.loads(lab("cache", "gc", "--remote", "--keep-runs", "0", "--grace", "0", "--format", "json").stdout)
        told("moto: gc plans", plan["bytes"] > 1e8 and not plan["applied"], plan["bytes"])
        lab("cache", "gc", "--remote", "--keep-runs", "0", "--grace", "0", "--apply")
        left = s3.list_objects_v2(Bucket="lab", Prefix="cache/")["KeyCount"]
        told("moto: and frees", left == 1, left)
        # A server that goes in the middle of a run's questions.
        server.kill()
        server.wait()
        began = time.time()
        outcomes, warnings = lab.run("gone")
        told("moto: a server that is gone costs one warning", set(outcomes.values()) == {"ran"} and len(warnings) == 1, (outcomes, warnings))
        figure("moto run without its server", f"{time.time() - began:.1f} s")
    finally:
        server.kill()
        lab.close()


def s3s(program, s3s_fs, before):
    port = free_port()
    lab = Lab(program, "s3://lab/cache", aws(port, SECRET))
    root = lab.dir / "server"
    (root / "lab").mkdir(parents=True)

    def start():
        started = subprocess.Popen([s3s_fs, "--access-key", "AKIDKEY", "--secret-key", SECRET, "--host", "127.0.0.1", "--port", str(port), root],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(port)
        return started

    servers = [start()]
    try:
        s3 = boto(f"http://127.0.0.1:{port}", SECRET)
        done = lab("run", "p.yaml", "--format", "json", "--remote-mode", "write", "--key", "lab.pem", cache="a",
                   environment={"AWS_SECRET_ACCESS_KEY": SECRET + "x"})
        said = done.stdout + done.stderr
        told("s3s-fs: a wrong secret is told, once, and the run goes on", done.stdout.count("is left alone") == 1 and "(SignatureDoesNotMatch)" in said, said)
        told("s3s-fs: and the secret is not told", SECRET not in said and not lab.leaks(SECRET), lab.leaks(SECRET))
        wrong = lab("cache", "push", "--key", "lab.pem", cache="a", check=False, environment={"AWS_SECRET_ACCESS_KEY": SECRET + "x"})
        told("s3s-fs: a push with it fails", wrong.returncode == 1 and "SignatureDoesNotMatch" in wrong.stderr and SECRET not in wrong.stderr, wrong.stderr)
        # The server goes in the middle of an upload, and comes back: uploads lie on its disk.
        tap = Tap(port)
        lab.environment.update(aws(tap.port, SECRET))

        def kill_server(push):
            servers[-1].kill()
            servers[-1].wait()

        errors, code = resuming(lab, "s3s-fs, server killed", tap, "server-killed", kill_server, lambda: servers.append(start()))
        told("s3s-fs: a server killed in mid-upload is a clear failure", code == 1 and "goes on from there" in errors, errors)
        resuming(lab, "s3s-fs, client killed", tap, "client-killed", lambda push: push.kill(), lambda: None)

        def forget():
            for upload in root.glob(".upload-*.json"):
                upload.unlink()

        resuming(lab, "s3s-fs, upload forgotten", tap, "forgotten", lambda push: push.kill(), forget, is_forgotten=True)
        both(lab, "s3s-fs", tap)
        pulled_through(lab, "s3s-fs", tap, "client-killed", before)
        lab.environment.update(aws(port, SECRET))
        lab.push()
        outcomes, warnings = lab.run("b")
        told("s3s-fs: and the second machine executes nothing", outcomes == HITS and not warnings, (outcomes, warnings))
        tampering(lab, "s3s-fs", s3, "lab")
        together(lab, "s3s-fs", False, s3, "lab")
        lab.environment.update(aws(port, SECRET))
        throughput(lab, "s3s-fs", s3, port, "lab", before, SECRET)
        told("s3s-fs: the secret is in no file", not [p for p in lab.leaks(SECRET)], lab.leaks(SECRET))
    finally:
        servers[-1].kill()
        lab.close()


class Small:
    """A disk of so many MB."""

    def __init__(self, folder, megabytes):
        self.folder = folder
        folder.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=True)

    def grow(self, megabytes):
        subprocess.run(["mount", "-o", f"remount,size={megabytes}m", self.folder], check=True)

    def close(self):
        subprocess.run(["umount", "-l", self.folder], check=False)


def filled(lab, name, disk, objects):
    """A shared cache whose disk is full: it costs a warning, a push fails in words, and goes on once there is room."""
    done = lab("run", "p.yaml", "--format", "json", "--remote-mode", "write", "--key", "lab.pem", cache="a", check=False)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    warnings = [e["message"] for e in events if e["event"] == "warning"]
    outcomes = {e["outcome"] for e in events if e["event"] == "stage-finished"}
    told(f"{name}: a run that fills it ends well, with one warning", done.returncode == 0 and outcomes == {"ran"} and len(warnings) == 1
         and "is left alone from here on" in warnings[0], (done.returncode, outcomes, warnings))
    figure(f"{name} says", warnings[:1])
    told(f"{name}: what was made here is whole", lab("cache", "verify", cache="a", check=False).returncode == 0 and (lab.dir / "out.txt").read_text().split() == ["15000000", "40"])
    failed = lab("cache", "push", "--key", "lab.pem", cache="a", check=False)
    told(f"{name}: a push fails with code 1 and says what to do", failed.returncode == 1 and "goes on from there" in failed.stderr and len(failed.stderr.splitlines()) <= 2, (failed.returncode, failed.stderr))
    print(f"     {failed.stderr.strip()}")
    is_whole = lambda there: there.read_bytes() == (lab.dir / "a/objects" / there.relative_to(objects)).read_bytes()
    found = [path for path in objects.glob("??/*") if path.is_file() and re.fullmatch("[0-9a-f]{62}", path.name)]
    told(f"{name}: no half object stands there", found and all(map(is_whole, found)), [(path, path.stat().st_size) for path in found])
    outcomes, warnings = lab.run("b")
    told(f"{name}: others are served what is whole, and no more", outcomes["large"] == "ran" and not warnings
         and lab("cache", "verify", cache="b", check=False).returncode == 0, (outcomes, warnings))
    disk.grow(900)
    pushed = lab.push()
    outcomes, warnings = lab.run("c")
    told(f"{name}: with room again a push goes on, and others are served", pushed["present"] > 0 and outcomes == HITS and not warnings, (pushed, outcomes, warnings))


def full(program, s3s_fs):
    if os.geteuid() != 0:
        return print("SKIPPED full: only root may make a small disk")
    lab = Lab(program, "share", {})
    disk = Small(lab.dir / "share", 60)
    try:
        filled(lab, "full folder", disk, lab.dir / "share/objects")
    finally:
        disk.close()
        lab.close()
    if not s3s_fs:
        return print("SKIPPED full s3s-fs: it was not named")
    port = free_port()
    lab = Lab(program, "s3://lab/cache", aws(port))
    disk, server = Small(lab.dir / "server", 60), None
    try:
        (lab.dir / "server/lab").mkdir()
        server = subprocess.Popen([s3s_fs, "--access-key", "AKIDKEY", "--secret-key", "secret", "--host", "127.0.0.1", "--port", str(port), lab.dir / "server"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(port)
        filled(lab, "full s3s-fs", disk, lab.dir / "server/lab/cache/objects")
    finally:
        if server:
            server.kill()
            server.wait()
        disk.close()
        lab.close()


# The key that Microsoft publishes for its emulator.
AZURITE = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def make_container(port, name):
    """The one request that a shared cache never makes: signed by hand."""
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    canonical = f"PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:2021-08-06\n/devstoreaccount1/devstoreaccount1/{name}\nrestype:container"
    signed = base64.b64encode(hmac.new(base64.b64decode(AZURITE), canonical.encode(), hashlib.sha256).digest()).decode()
    headers = {"x-ms-date": date, "x-ms-version": "2021-08-06", "Authorization": f"SharedKey devstoreaccount1:{signed}", "Content-Length": "0"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/devstoreaccount1/{name}?restype=container", method="PUT", headers=headers)
    urllib.request.urlopen(request).close()


def azure(program, azurite):
    port = free_port()
    folder = tempfile.mkdtemp(prefix="azurite-")
    server = subprocess.Popen([azurite, "--silent", "--disableTelemetry", "--skipApiVersionCheck", "--location", folder, "--blobPort", str(port)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lab = Lab(program, "az://lab/cache", {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": f"http://127.0.0.1:{port}"})
    try:
        wait_for(port)
        make_container(port, "lab")
        sharing(lab, "Azurite")
        tap = Tap(port)
        lab.environment["AZURITE_BLOB_STORAGE_URL"] = f"http://127.0.0.1:{tap.port}"
        resuming(lab, "Azurite, client killed", tap, "killed", lambda push: push.kill(), lambda: None)
        both(lab, "Azurite", tap)
        pulled_through(lab, "Azurite", tap, "killed")
        told("Azurite: the key is in no file", not lab.leaks(AZURITE), lab.leaks(AZURITE))
        lab.environment |= {"AZURE_STORAGE_ACCOUNT_NAME": "devstoreaccount1", "AZURE_STORAGE_ACCOUNT_KEY": base64.b64encode(b"x" * 64).decode()}
        wrong = lab("cache", "push", "--key", "lab.pem", check=False)
        told("Azurite: a wrong key is told", wrong.returncode == 1 and "credentials" in wrong.stderr, wrong.stderr)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()
        lab.close()
        shutil.rmtree(folder, ignore_errors=True)


def gcs(program):
    port = free_port()
    bucket = gcs_stub.serve(port)
    account = {"private_key": "none", "private_key_id": "none", "client_email": "", "disable_oauth": True, "gcs_base_url": f"http://127.0.0.1:{port}"}
    lab = Lab(program, "gs://lab/cache", {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account)})
    try:
        sharing(lab, "GCS stub")
        tap = Tap(port)
        account["gcs_base_url"] = f"http://127.0.0.1:{tap.port}"
        lab.environment["GOOGLE_SERVICE_ACCOUNT_KEY"] = json.dumps(account)
        resuming(lab, "GCS stub, client killed", tap, "killed", lambda push: push.kill(), lambda: None)
        resuming(lab, "GCS stub, upload forgotten", tap, "forgotten", lambda push: push.kill(), bucket.uploads.clear, is_forgotten=True)
        both(lab, "GCS stub", tap)
        pulled_through(lab, "GCS stub", tap, "killed")
        told("GCS stub: create-only puts say x-goog-if-generation-match: 0", bucket.conditional > 48 and bucket.refused >= 45, (bucket.conditional, bucket.refused))
        about = json.loads(bucket.objects["cache/cistage.json"][0])
        told("GCS stub: they are kept", about["create_only"] is True, about)
    finally:
        lab.close()


def certify(server):
    """Has a server speak TLS with a certificate made just now; gives the authority's, in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    import ipaddress
    import ssl

    now = datetime.datetime.now(datetime.timezone.utc)

    def certificate(subject, issuer, key, signer, is_authority):
        name = lambda text: x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
        built = (x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer)).public_key(key.public_key())
                 .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
                 .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True))
        if not is_authority:
            built = built.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        return built.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with tempfile.NamedTemporaryFile() as file:
        file.write(secret + certificate("server", "authority", key, authority, False))
        file.flush()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file.name)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return certificate("authority", "authority", authority, authority, True)


def in_pieces(lab, share):
    """Web servers that know ranges, and lie about them."""
    state = {"how": "honestly", "pieces": 0}

    class Ranged(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            path = share / self.path.lstrip("/")
            if not path.is_file():
                return self.send_error(404)
            body = path.read_bytes()
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            how, size = state["how"], len(body)
            if not wanted:
                self.send_response(200)
            else:
                state["pieces"] += 1
                start, end = int(wanted[1]), min(int(wanted[2]) + 1, size)
                body = body[start:end]
                if start and how == "flips a byte":
                    body = bytes([body[0] ^ 1]) + body[1:]
                if start and how == "says another size":
                    size += 1
                if start and how == "sends another range":
                    start, end = start - 1, end - 1
                if start and how == "says it changed":
                    return self.send_error(412)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
                if start and how == "sends too little":
                    body = body[:-1]
            self.send_header("ETag", '"one"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                try:
                    self.wfile.write(body)
                except OSError:
                    pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ranged)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    lab.toml(f"http://127.0.0.1:{server.server_port}")
    for nth, how in enumerate(["honestly", "flips a byte", "says another size", "sends another range", "says it changed", "sends too little"]):
        state.update(how=how, pieces=0)
        outcomes, warnings = lab.run(f"ranged{nth}")
        if how == "honestly":
            right = outcomes == HITS and not warnings
        else:
            right = outcomes["large"] == "ran" and len(warnings) == 1
        told(f"web, in pieces: a server that {how.replace('honestly', 'is honest')}", right and state["pieces"] > 1, (state, outcomes, warnings))
        if warnings:
            print(f"     {warnings[0]}")
        shutil.rmtree(lab.dir / f"ranged{nth}")
    lab.toml()
    server.shutdown()


def web(program):
    """A folder that others may read through a web server."""
    lab = Lab(program, "share", {})
    share = lab.dir / "share"
    share.mkdir()
    lab.run("a", "--remote-mode", "write", "--key", "lab.pem")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args, **more):
            super().__init__(*args, directory=str(share), **more)

        def log_message(self, *_):
            pass

        def copyfile(self, source, sink):
            try:
                super().copyfile(source, sink)
            except OSError:
                # Who asks for a piece does not stay for the whole.
                self.close_connection = True

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    lab.remote = f"http://127.0.0.1:{server.server_port}"
    lab.toml()
    outcomes, warnings = lab.run("b")
    # This one knows no ranges.
    told("web: what a web server gives is served", outcomes == HITS and not warnings, (outcomes, warnings))
    refused = lab("run", "p.yaml", "--remote-mode", "write", "--key", "lab.pem", cache="b", check=False)
    told("web: nothing is added to it", "read alone" in refused.stderr, refused.stderr)
    server.shutdown()
    in_pieces(lab, share)
    secure = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    authority = certify(secure)
    threading.Thread(target=secure.serve_forever, daemon=True).start()
    lab.remote = f"https://127.0.0.1:{secure.server_port}"
    lab.toml()
    outcomes, warnings = lab.run("untrusted")
    told("web: a certificate that nobody vouches for is refused", set(outcomes.values()) == {"ran"} and len(warnings) == 1, (outcomes, warnings))
    (lab.dir / "authority.pem").write_bytes(authority)
    outcomes, warnings = lab.run("secure", environment={"SSL_CERT_FILE": str(lab.dir / "authority.pem")})
    told("web: over TLS too", outcomes == HITS and not warnings, (outcomes, warnings))
    secure.shutdown()

    # Another host is not asked, whatever a server says.
    asked = []

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

    elsewhere = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=elsewhere.serve_forever, daemon=True).start()

    class Redirects(Elsewhere):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{elsewhere.server_port}{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()

    redirects = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirects)
    threading.Thread(target=redirects.serve_forever, daemon=True).start()
    lab.remote = f"http://127.0.0.1:{redirects.server_port}"
    lab.toml()
    outcomes, warnings = lab.run("redirected")
    told("web: a redirection to another server is not followed", set(outcomes.values()) == {"ran"} and not asked, (outcomes, warnings, asked))

    # A server that sends a byte now and then, for ever.
    class Slow(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "4000")
            self.end_headers()
            try:
                for _ in range(4000):
                    self.wfile.write(b" ")
                    time.sleep(1)
            except OSError:
                pass

    slow = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    slow.daemon_threads = True
    threading.Thread(target=slow.serve_forever, daemon=True).start()
    lab.remote = f"http://127.0.0.1:{slow.server_port}"
    lab.toml()
    began = time.time()
    outcomes, warnings = lab.run("c")
    took = time.time() - began
    told("web: a server that trickles is left alone", set(outcomes.values()) == {"ran"} and len(warnings) == 1 and took < 60, (took, outcomes, warnings))
    figure("run beside a server that trickles", f"{took:.0f} s")
    lab.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True, type=lambda path: str(pathlib.Path(path).resolve()))
    parser.add_argument("--s3s-fs", type=lambda path: str(pathlib.Path(path).resolve()))
    parser.add_argument("--azurite", type=lambda path: str(pathlib.Path(path).resolve()))
    parser.add_argument("--before", type=lambda path: str(pathlib.Path(path).resolve()), help="an older program, to be measured beside this one")
    parser.add_argument("--part")
    args = parser.parse_args()
    parts = {
        "moto": lambda: moto(args.bin, args.before),
        "gcs": lambda: gcs(args.bin),
        "web": lambda: web(args.bin),
        "s3s": args.s3s_fs and (lambda: s3s(args.bin, args.s3s_fs, args.before)),
        "full": lambda: full(args.bin, args.s3s_fs),
        "azure": args.azurite and (lambda: azure(args.bin, args.azurite)),
    }
    for name, part in parts.items():
        if args.part in (None, name):
            if part:
                part()
            else:
                print(f"SKIPPED {name}: its server was not named")
    print(f"{len(failures)} checks failed" if failures else "all checks hold")
    raise SystemExit(1 if failures else 0)


if __name__ == "__main__":
    main()
