"""Renders, lints and validates the chart as Helm and an API server would, without either.

Reads a list of cases from standard input, each `{"preset", "values", "check"}`, and writes what came of each: `{"objects",
"notes", "lint", "faults"}`, or `{"error"}` where Helm refuses the values. Without `check` nothing is linted and held against
schemas, which takes most of the time. A case `{"manifests"}` is YAML that something else made, held against the schemas alone.
The tests judge.
"""

import copy
import functools
import json
import pathlib
import sys

import helm_python
import jsonschema
import referencing
import yaml
from helm_python.chart import Chart

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "charts" / "framewake"
# The oldest version that Chart.yaml admits, and the newest there is a schema of.
VERSIONS = ("1.31", "1.37")
RELEASE, NAMESPACE = "farm", "render"


class Strict(yaml.CSafeLoader):
    """YAML as API servers read it: a key written twice is a fault, not the last one's victory."""


def mapping(loader, node):
    keys = [loader.construct_object(key) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.YAMLError(f"written twice: {sorted(twice)}, {node.start_mark}")
    return loader.construct_mapping(node, deep=True)


Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)


@functools.cache
def definitions(version):
    import kubernetes_validate

    folders = pathlib.Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    folder = folders / f"v{version}.0-local-strict"
    text = json.loads((folder / "_definitions.json").read_text())
    return folder, referencing.Resource.from_contents(text) @ referencing.Registry()


@functools.cache
def of_others():
    return json.loads((pathlib.Path(__file__).parent / "kinds.json").read_text())


@functools.cache
def validator(api, kind, version):
    """Of a kind of Kubernetes by its own schema; of a kind of others by the part that is written down here."""
    group, _, _ = api.rpartition("/")
    own = "." not in group or group.endswith(".k8s.io")
    if not own:
        schema = of_others()[f"{api} {kind}"]
        return jsonschema.Draft202012Validator(schema)
    folder, registry = definitions(version)
    name = f"{kind.lower()}-{api.split('/')[0].split('.')[0]}-{api.split('/')[-1]}" if group else f"{kind.lower()}-{api}"
    schema = json.loads((folder / f"{name}.json").read_text())
    return jsonschema.Draft202012Validator(schema, registry=registry)


@functools.cache
def faults(text):
    """Of one object, given as text because most cases have the same ones."""
    return list(look(json.loads(text)))


def look(document):
    if document["kind"] == "ScaledJob":
        # What KEDA makes of it must be one of Kubernetes' own.
        made = {"apiVersion": "batch/v1", "kind": "Job", "metadata": document["metadata"], "spec": document["spec"]["jobTargetRef"]}
        yield from look(made)
    for version in VERSIONS:
        for error in validator(document["apiVersion"], document["kind"], version).iter_errors(document):
            where = "/".join(str(part) for part in error.absolute_path)
            yield f"{version}: {document['kind']} {document['metadata']['name']}: /{where}: {error.message[:300]}"


def merged(base, over):
    """Values as Helm lays one file over another."""
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            merged(base[key], value)
        else:
            base[key] = value
    return base


def carry_out(chart, case):
    if "manifests" in case:
        objects = list(yaml.load_all(case["manifests"], Strict))
        found = [fault for document in objects for fault in faults(json.dumps(document, sort_keys=True))]
        return {"objects": objects, "faults": found}
    values = {}
    if case.get("preset"):
        values = yaml.load((CHART / "presets" / f"{case['preset']}.yaml").read_text(), Strict)
    values = merged(copy.deepcopy(values), case.get("values", {}))
    try:
        files = chart.render(values, name=RELEASE, namespace=NAMESPACE)
    except helm_python.HelmError as error:
        return {"error": str(error)}
    notes = next(text for path, text in files.items() if path.endswith("NOTES.txt"))
    objects = []
    for path, text in files.items():
        if not path.endswith("NOTES.txt"):
            objects += [document for document in yaml.load_all(text, Strict) if document]
    if not case.get("check"):
        return {"objects": objects, "notes": notes, "lint": [], "faults": []}
    lint = helm_python.lint(str(CHART), values, strict=True, namespace=NAMESPACE)
    said = [f"{message['path']}: {message['error']}" for message in lint["messages"] if message["severity"] > 1]
    found = [fault for document in objects for fault in faults(json.dumps(document, sort_keys=True))]
    return {"objects": objects, "notes": notes, "lint": said + lint["errors"], "faults": found}


def main():
    chart = Chart.load(CHART)
    json.dump([carry_out(chart, case) for case in json.load(sys.stdin)], sys.stdout)


main()
