"""A folder with a pipeline and its cache, in which the program runs as its users run it."""
import json
import os
import pathlib
import shutil
import signal
import subprocess

# Whatever takes longer than this on pipelines of a tenth of a second hangs.
LIMIT = 60.0


class Answer:
    """What one command gave. `code` is None where it hung, and negative where a signal ended it."""

    def __init__(self, code, stdout, stderr):
        self.code, self.stdout, self.stderr = code, stdout, stderr
        self.events = events(stdout)

    @property
    def finished(self):
        return [e for e in self.events if e["event"] == "stage-finished"]

    @property
    def outcomes(self):
        return {e["stage"]: e["outcome"] for e in self.finished}

    @property
    def digests(self):
        return {f"{e['stage']}.{port}": output["digest"] for e in self.finished for port, output in e["outputs"].items()}

    def failure(self):
        """What is wrong where it should have succeeded."""
        if self.code == 0:
            return []
        said = self.stderr.strip() or " ".join(e.get("error") or "" for e in self.finished)
        return ["it hung" if self.code is None else f"it ended with {self.code}: {said[-300:]}"]


def events(text):
    """The events of a run; the last line of a killed one may be cut short."""
    found = []
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            found.append(event)
    return found


class Workspace:
    def __init__(self, program, folder, pipeline=None):
        self.program, self.folder = str(program), pathlib.Path(folder)
        self.cache = self.folder / "cache"
        if pipeline is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            (self.folder / "p.yaml").write_text(pipeline)

    def copy(self, folder):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder, folder, symlinks=True)
        return Workspace(self.program, folder)

    def start(self, *args, under=(), **how):
        """Starts the program, leader of a group of its own; `under`: the command that it is started by."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("CISTAGE_", "RUST_"))}
        env |= {"NO_COLOR": "1", "LC_ALL": "C"}
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "errors": "replace"} | how
        return subprocess.Popen([*under, self.program, *args], cwd=self.folder, env=env, stdin=subprocess.DEVNULL,
                                start_new_session=True, **how)

    def call(self, *args, under=(), limit=LIMIT):
        return answer(self.start(*args, under=under), limit)

    @staticmethod
    def run_args(*args):
        return ["run", "p.yaml", "--format", "json", *args]

    def run(self, *args, **how):
        return self.call(*self.run_args(*args), **how)

    def damage(self):
        """What `cache verify` has against the cache, where there is one yet."""
        if not self.cache.is_dir():
            return []
        found = self.call("cache", "verify")
        return [] if found.code == 0 else [f"cache verify ended with {found.code}: {found.stdout}{found.stderr}"]

    def object(self, digest):
        name = digest.removeprefix("blake3:")
        return self.cache / "objects" / name[:2] / name[2:]

    def objects(self):
        """The bytes of all objects, by name."""
        return {f.parent.name + f.name: f.read_bytes() for f in (self.cache / "objects").glob("??/*")}

    def published(self, paths):
        """The files at the published paths, by name."""
        files = [f for path in paths for f in [self.folder / path, *(self.folder / path).rglob("*")] if f.is_file()]
        return {str(f.relative_to(self.folder)): f.read_bytes() for f in files}


def answer(process, limit=LIMIT):
    """Waits for a command that was started."""
    try:
        stdout, stderr = process.communicate(timeout=limit)
        return Answer(process.returncode, stdout or "", stderr or "")
    except subprocess.TimeoutExpired:
        kill(process)
        stdout, stderr = process.communicate()
        return Answer(None, stdout or "", stderr or "")


def kill(process):
    """Kill -9 to a process and its group, without waiting for it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
