"""Compares this project's safetensors reader with the real one on damaged files.

    python tools/parity/weights_differential.py [COUNT] [SEED]

Whatever the real reader refuses must be refused here. The other way round, refusals here are allowed only for the
reasons in STRICTER, each of which the format's specification or plain sense forbids.
"""

import collections
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import safetensors

ROOT = Path(__file__).resolve().parents[2]
STRICTER = {
    "repeated key": re.compile(r"each key once"),
    "number above 2^53": re.compile(r"an integer from 0 to 2\^53 - 1, got \d{16,}$"),
}


def frames(count, seed):
    script = ROOT / "tools" / "parity" / "weights_mutations.ts"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutations"
        command = ["node", "--import=tsx", "--conditions=equipoise-source", str(script), str(count), str(seed), str(path)]
        subprocess.run(command, cwd=ROOT, check=True)
        with path.open("rb") as file:
            while header := file.read(8):
                size, text = struct.unpack("<II", header)
                yield file.read(size), file.read(text).decode()


def accepts(data):
    try:
        safetensors.deserialize(data)
        return True
    except Exception as error:
        return str(error)


def main():
    count, seed = (int(value) for value in (sys.argv[1:] + ["50000", "1"][len(sys.argv) - 1 :]))
    total = agreed = 0
    stricter = collections.Counter()
    wrong = []
    for data, verdict in frames(count, seed):
        total += 1
        theirs = accepts(data)
        if (theirs is True) == (verdict == ""):
            agreed += 1
        elif theirs is True:
            reason = next((name for name, pattern in STRICTER.items() if pattern.search(verdict)), None)
            if reason is None:
                wrong.append((data, theirs, verdict))
            else:
                stricter[reason] += 1
        else:
            wrong.append((data, theirs, verdict))
    for data, theirs, verdict in wrong[:10]:
        print("DISAGREE", data[:300], "| theirs:", theirs, "| ours:", verdict or "accepted")
    print(
        f"safetensors {safetensors.__version__}: {total} files, {agreed} equal verdicts, "
        f"{dict(stricter)} refused only here, {len(wrong)} disagreements"
    )
    sys.exit(1 if wrong or total != count else 0)


if __name__ == "__main__":
    main()
