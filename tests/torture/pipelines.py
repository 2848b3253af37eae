"""The pipelines that are tortured: a tenth of a second each, with outputs of every shape."""

# A file, a folder, and two outputs of one stage. `salt` changes bytes and keys, `round` keys alone.
SMALL = """\
cistage: 1
name: small
params: { salt: 0, round: 0 }
stages:
  a:
    uses: command
    out: { o: o.txt }
    with: { run: "echo {param.salt} > {out.o}; seq 2000 >> {out.o}; : {param.round}" }
  b:
    uses: command
    in: { x: a.o }
    out: { o: out }
    with: { run: "mkdir -p {out.o}/sub; cp {in.x} {out.o}/one; head -n 3 {in.x} > {out.o}/sub/two; : {param.round}" }
  c:
    uses: command
    in: { x: a.o, y: b.o }
    out: { o: o.txt, p: p.txt }
    with: { run: "cat {in.y}/sub/two {in.x} > {out.o}; wc -l < {in.x} > {out.p}; : {param.round}" }
publish: { res/o.txt: c.o, res/folder: b.o }
"""
STAGES = ("a", "b", "c")
PUBLISHED = ("res/o.txt", "res/folder")


def chain(length):
    """Stages in a line, each with some 100 kB of its own; the last is published, and so is the folder that it leaves."""
    lines = ["cistage: 1", "name: chain", "params: { salt: 0 }", "stages:"]
    for n in range(1, length + 1):
        source = f"in: {{ x: s{n - 1}.o }}, " if n > 1 else ""
        read = "wc -c < {in.x} >> {out.o}; " if n > 1 else ""
        text = f"printf %0100000d {n}{{param.salt}} > {{out.o}}; {read}mkdir {{out.d}}; echo {n}-{{param.salt}} > {{out.d}}/n"
        lines.append(f'  s{n}: {{ uses: command, {source}out: {{ o: o.txt, d: d }}, with: {{ run: "{text}" }} }}')
    lines.append(f"publish: {{ res/o.txt: s{length}.o, res/folder: s{length}.d }}")
    return "\n".join(lines) + "\n"


def crowded(number, log, times):
    """One of several pipelines which share three stages and have one of their own; each execution adds a line to `log`.

    The line has the process that executes: the worker's parent, and 1 where that is dead.
    """
    say = f"echo NAME $(cut -d' ' -f4 /proc/$PPID/stat) >> {log}"
    stages = {
        "left": ("", "echo left > {out.o}"),
        "right": ("", "echo right > {out.o}"),
        "both": ("in: { l: left.o, r: right.o }, ", "cat {in.l} {in.r} > {out.o}"),
        f"own{number}": ("in: { b: both.o }, ", f"cat {{in.b}} > {{out.o}}; echo {number} >> {{out.o}}"),
    }
    lines = ["cistage: 1", f"name: crowd{number}", "stages:"]
    for name, (source, work) in stages.items():
        text = f"{say.replace('NAME', name)}; sleep 0.0{times[name]}; {work}"
        lines.append(f'  {name}: {{ uses: command, {source}out: {{ o: o.txt }}, with: {{ run: "{text}" }} }}')
    return "\n".join(lines) + "\n"
