"""Holds a bill of materials against the schema of CycloneDX 1.6, and against itself: every reference leads somewhere."""

import json
import pathlib
import sys

import jsonschema
import referencing

packages = next(pathlib.Path(sys.prefix).glob("lib/python3*/site-packages/cyclonedx/schema/_res"))
schemas = {name: json.loads((packages / f"{name}.SNAPSHOT.schema.json").read_text()) for name in ("bom-1.6", "spdx", "jsf-0.82")}
resources = [(f"http://cyclonedx.org/schema/{name}.SNAPSHOT.schema.json", referencing.Resource.from_contents(schema)) for name, schema in schemas.items()]
resources += [(schema["$id"], referencing.Resource.from_contents(schema)) for schema in schemas.values()]
registry = referencing.Registry().with_resources(resources)
validator = jsonschema.Draft7Validator(schemas["bom-1.6"], registry=registry, format_checker=jsonschema.FormatChecker())

document = json.load(sys.stdin)
faults = [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(document)]
references = [one["bom-ref"] for one in document.get("components", [])] + [document["metadata"]["component"]["bom-ref"]]
faults += [f"{one} is there twice" for one in set(references) if references.count(one) > 1]
known = set(references)
for one in document.get("dependencies", []):
    faults += [f"{named} is named and nowhere described" for named in [one["ref"], *one["dependsOn"]] if named not in known]
needed = {document["metadata"]["component"]["bom-ref"]}.union(*(one["dependsOn"] for one in document.get("dependencies", [])))
faults += [f"{one} is needed by nobody" for one in known - needed]
print("\n".join(faults[:20]))
sys.exit(bool(faults))
