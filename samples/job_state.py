"""State of a job and its frames that are done; with --report, what its workers cost. Reads the REST interface only."""

import datetime
import json
import os
import sys
import urllib.request


def get(path):
    with urllib.request.urlopen(os.environ["FRAMEWAKE_URL"] + path) as answer:
        return json.load(answer)


def at(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


job = get(f"/v1/jobs/{sys.argv[1]}")
if "--report" not in sys.argv:
    print(job["state"], job["tasks"]["done"])
    sys.exit()
attempts = get(f"/v1/jobs/{sys.argv[1]}/attempts?limit=1000")["items"]
first = min(at(attempt["started_at"]) for attempt in attempts)
ms = round((first - at(job["submitted_at"])).total_seconds() * 1000)
print(f"submit to the first order in a fresh container:   {ms} ms")
lost = [attempt for attempt in attempts if attempt["outcome"] == "lost"]
frames = job["tasks"]["total"]
print(f"frames: {frames}, each stored once; attempts lost with a killed container: {len(lost)}")
for attempt in lost:
    print(f"  frames {attempt['frames']} on {attempt['worker']}: {attempt['done']} done before, {attempt['reason']}")
