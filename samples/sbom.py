#!/usr/bin/env python3
"""Writes bills of materials (CycloneDX 1.6, JSON): what is linked into each program, and what is in an image.

    sbom.py program NAME [--file BUILT] [--into FILE]
    sbom.py image NAME --root FOLDER [--program PROGRAM …] [--into FILE]

Of a program: the crates that Cargo links into it, from Cargo.lock, with their checksums; not what only runs while it is built.
Of an image: the packages of its Debian, from the list that dpkg keeps in it; the Python packages that were put in beside it, Blender
among them, from what pip leaves of each; and what is linked into our programs in it.
The same sources give the same bytes.
"""

import argparse
import datetime
import email.parser
import hashlib
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOST = f"{platform.machine()}-unknown-linux-gnu"
# Package and target of each program that is handed out, as static.sh builds them.
PROGRAMS = {
    "framewake-worker": ("framewake-worker", f"{platform.machine()}-unknown-linux-musl"),
    "framewake-gpu": ("framewake-gpu", HOST),
    "framewake-scheduler": ("framewake-scheduler", HOST),
    "framewake": ("framewake-scheduler", HOST),
}
# Longest list of packages that is read.
DPKG_BYTES_MAX = 64 << 20
# Longest description of a Python package that is read: it may have a whole manual in it.
METADATA_BYTES_MAX = 4 << 20
# Longest license in words: some packages write all of its text where its name belongs.
LICENSE_CHARS_MAX = 120
# Under this, dpkg has put what its own list names.
PYTHON_OF_DEBIAN = "usr/lib/python3/dist-packages"
# As databases of vulnerabilities call what is a program too: by the package's name alone they would find nothing.
CPES = {"bpy": "cpe:2.3:a:blender:blender:{version}:*:*:*:*:*:*:*"}


def said(*command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def license_of(text):
    """An SPDX expression; older crates write a slash where it has an OR."""
    expression = re.sub(r"\s*/\s*", " OR ", text.strip())
    return [{"expression": expression}] if expression else []


def crate(name, version, license_text, locked):
    purl = f"pkg:cargo/{name}@{version}"
    component = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    checksum = locked.get((name, version))
    if checksum:
        component["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if licenses := license_of(license_text):
        component["licenses"] = licenses
    return component


def linked(package, target):
    """Components by reference, and what each needs, as Cargo links them into the package's programs."""
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    locked = {(one["name"], one["version"]): one.get("checksum", "") for one in lock["package"]}
    tree = said("cargo", "tree", "--locked", "--package", package, "--target", target, "--edges", "normal,no-proc-macro",
                "--prefix", "depth", "--format", "|{p}|{l}|")
    components, needs, above = {}, {}, []
    for line in tree.splitlines():
        depth, described, license_text, _ = line.split("|", 3)
        name, version = described.split(" ")[:2]
        version = version.removeprefix("v")
        if (name, version) not in locked:
            raise SystemExit(f"{name} {version} is not in Cargo.lock")
        component = crate(name, version, license_text, locked)
        reference = component["bom-ref"]
        components[reference] = component
        needs.setdefault(reference, set())
        above[int(depth):] = [reference]
        if int(depth):
            needs[above[int(depth) - 1]].add(reference)
    return components, needs, above[0]


def standard_library():
    version = said("rustc", "--version").split()[1]
    purl = f"pkg:generic/rust-std@{version}"
    return {"type": "library", "bom-ref": purl, "name": "rust-std", "version": version, "purl": purl,
            "licenses": [{"expression": "MIT OR Apache-2.0"}]}


def program_parts(name):
    """The component of the program itself, what is linked into it, and who needs what."""
    package, target = PROGRAMS[name]
    components, needs, root = linked(package, target)
    std = standard_library()
    components[std["bom-ref"]] = std
    needs[std["bom-ref"]] = set()
    top = dict(components.pop(root))
    needed = needs.pop(root) | {std["bom-ref"]}
    purl = f"pkg:generic/{name}@{top['version']}?target={target}"
    top |= {"type": "application", "name": name, "bom-ref": purl, "purl": purl}
    needs[purl] = needed
    return top, components, needs


def made_at():
    """Of the commit, or as SOURCE_DATE_EPOCH says: not of the moment, which would make each run another file."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH") or said("git", "log", "-1", "--format=%ct").strip()
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def bill(top, components, needs):
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"timestamp": made_at(), "component": top},
        "components": [components[reference] for reference in sorted(components)],
        "dependencies": [{"ref": one, "dependsOn": sorted(needs[one])} for one in sorted(needs)],
    }
    text = json.dumps(document, sort_keys=True)
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, text)}"
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def of_program(name, built):
    top, components, needs = program_parts(name)
    if built:
        top["hashes"] = [{"alg": "SHA-256", "content": hashlib.sha256(built.read_bytes()).hexdigest()}]
    return bill(top, components, needs)


def debian_packages(root):
    """Installed packages, from dpkg's own list; distroless images have a file for each instead."""
    status = root / "var/lib/dpkg/status"
    files = [status] if status.is_file() else sorted((root / "var/lib/dpkg/status.d").glob("*"))
    release = {}
    for place in ("etc/os-release", "usr/lib/os-release"):
        if (root / place).is_file():
            lines = (root / place).read_text().splitlines()
            release = dict(line.split("=", 1) for line in lines if "=" in line)
            break
    system = release.get("ID", "debian").strip('"')
    distro = f"{system}-{release.get('VERSION_ID', '').strip(chr(34))}".rstrip("-")
    components = {}
    for file in files:
        if file.suffix in (".md5sums", ".preinst", ".postinst"):
            continue
        if file.stat().st_size > DPKG_BYTES_MAX:
            raise SystemExit(f"{file} is larger than {DPKG_BYTES_MAX} bytes: no list of packages is")
        for paragraph in file.read_text(errors="replace").split("\n\n"):
            fields = dict(re.findall(r"^([A-Za-z-]+): *(.*)$", paragraph, re.M))
            if "Package" not in fields or "installed" not in fields.get("Status", "ok installed").split():
                continue
            name, version, machine = fields["Package"], fields["Version"], fields.get("Architecture", "all")
            version_part = version.replace("%", "%25").replace("+", "%2B").replace(":", "%3A")
            purl = f"pkg:deb/{system}/{name.replace('+', '%2B')}@{version_part}?arch={machine}&distro={distro}"
            component = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
            if fields.get("Maintainer"):
                component["publisher"] = fields["Maintainer"]
            components[purl] = component
    return components


def python_license(fields):
    """As CycloneDX has it: the SPDX expression of newer packages, else what older ones call it."""
    if expression := fields.get("License-Expression", "").strip():
        return [{"expression": expression}]
    classifiers = [one for one in fields.get_all("Classifier", []) if one.startswith("License ::")]
    words = (fields.get("License") or "").strip().splitlines()
    names = words[:1] if words and len(words) == 1 and len(words[0]) <= LICENSE_CHARS_MAX else []
    names = names or sorted(one.split(" :: ")[-1] for one in classifiers) or [one[:LICENSE_CHARS_MAX] for one in words[:1]]
    return [{"license": {"name": name}} for name in names]


def python_packages(root):
    """Installed packages, wherever they lie, by what pip, uv and others leave beside each: `NAME-VERSION.dist-info/METADATA`."""
    components = {}
    for folder, folders, _ in os.walk(root):
        folders.sort()
        place = pathlib.Path(folder)
        file = place / "METADATA"
        inside = place.relative_to(root).as_posix()
        if place.suffix != ".dist-info" or not file.is_file() or inside.startswith(PYTHON_OF_DEBIAN):
            continue
        if file.stat().st_size > METADATA_BYTES_MAX:
            raise SystemExit(f"{file} is larger than {METADATA_BYTES_MAX} bytes: it describes no package")
        fields = email.parser.HeaderParser().parsestr(file.read_text(errors="replace"))
        name, version = (fields.get(field, "").strip() for field in ("Name", "Version"))
        if not name or not version:
            raise SystemExit(f"{file} says no name or no version: what it is of would be missing from the bill")
        version_part = version.replace("%", "%25").replace("+", "%2B").replace("!", "%21")
        purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{version_part}"
        component = components.setdefault(purl, {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl})
        component.setdefault("evidence", {"occurrences": []})["occurrences"].append({"location": inside})
        if licenses := python_license(fields):
            component["licenses"] = licenses
        if cpe := CPES.get(name.lower()):
            component["cpe"] = cpe.format(version=version)
    return components


def of_image(name, root, programs):
    components = debian_packages(root) | python_packages(root)
    needs = {reference: set() for reference in components}
    purl = f"pkg:generic/{name.replace(':', '@', 1)}"
    top = {"type": "container", "bom-ref": purl, "name": name}
    held = set(components)
    for program in programs:
        one, crates, theirs = program_parts(program)
        components |= crates | {one["bom-ref"]: one}
        needs |= theirs
        held.add(one["bom-ref"])
    if not components:
        raise SystemExit(f"nothing is known of what is in {name}: no list of packages under {root}, no Python package, and no program was named")
    return bill(top, components, needs | {purl: held})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    program = kinds.add_parser("program")
    program.add_argument("name", choices=sorted(PROGRAMS))
    program.add_argument("--file", type=pathlib.Path, help="the built program, for its digest")
    image = kinds.add_parser("image")
    image.add_argument("name")
    image.add_argument("--root", type=pathlib.Path, required=True, help="the image's files")
    image.add_argument("--program", action="append", default=[], choices=sorted(PROGRAMS), help="a program of ours in it")
    for one in (program, image):
        one.add_argument("--into", type=pathlib.Path)
    asked = parser.parse_args()
    text = of_program(asked.name, asked.file) if asked.kind == "program" else of_image(asked.name, asked.root, asked.program)
    if asked.into:
        asked.into.parent.mkdir(parents=True, exist_ok=True)
        asked.into.write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
