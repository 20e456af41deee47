"""Makes training data from the package descriptions of a Debian or Ubuntu system.

    sudo apt-get -o Acquire::Languages=en update
    python3 dataset.py corpus.jsonl

One line a package: id, title, text, section, and whether it is held out. A tenth of the packages is
held out, by a hash of the name, so that the same ones are held out wherever this runs.
"""

import argparse
import hashlib
import json
import re
import subprocess
from pathlib import Path

APT_HELPER = "/usr/lib/apt/apt-helper"  # reads apt's compressed lists


def stanzas(text):
    """The stanzas of a Debian control file as dictionaries; continued lines are joined."""
    for block in text.split("\n\n"):
        fields, key = {}, None
        for line in block.split("\n"):
            if line[:1] in (" ", "\t") and key:
                fields[key] += "\n" + line[1:]
            elif ":" in line:
                key, value = line.split(":", 1)
                fields[key] = value.strip()
        if fields:
            yield fields


def read(lists, pattern):
    for path in sorted(Path(lists).glob(pattern)):
        shown = subprocess.run([APT_HELPER, "cat-file", path], capture_output=True, text=True, check=True)
        yield from stanzas(shown.stdout)


def documents(lists):
    packages = read(lists, "*_Packages*")
    sections = {p["Package"]: p.get("Section", "").split("/")[-1] for p in packages if "Package" in p}
    seen = set()
    for package in read(lists, "*_Translation-en*"):
        name, description = package.get("Package"), package.get("Description-en")
        if not description or not sections.get(name):
            continue
        title, _, body = description.partition("\n")
        text = re.sub(r"\s+", " ", body.replace("\n.\n", " ")).strip()
        # Too short to say anything, or the description of a sister package.
        if len(text) < 80 or len(title) < 12 or text in seen:
            continue
        seen.add(text)
        yield {
            "id": name,
            "title": title.strip(),
            "text": text[:900],
            "section": sections[name],
            "heldout": int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10 == 0,
        }


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("out", type=Path, help="the file to write, JSON lines")
    arguments.add_argument("--lists", default="/var/lib/apt/lists", help="where apt keeps its lists")
    arguments = arguments.parse_args()
    found = list(documents(arguments.lists))
    with open(arguments.out, "w") as file:
        file.writelines(json.dumps(document) + "\n" for document in found)
    print(len(found), "documents,", sum(document["heldout"] for document in found), "held out")
