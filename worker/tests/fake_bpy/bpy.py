"""A stand-in for Blender's module, as far as the bridge uses it. A scene is a JSON file that says how
the stand-in behaves: {"camera": false, "hang": 3, "die": 4, "say": "words", "child": true,
"images": ["//wood.png"]}."""

import json
import os
import shutil
import sys
import time
from types import SimpleNamespace as Space


class Settings:
    file_format = "PNG"


def scene():
    render = Space(
        engine="FAKE", use_stamp=False, filepath="", resolution_x=8, resolution_y=8, resolution_percentage=100,
        image_settings=Settings(),
    )
    return Space(render=render, camera=object(), timeline_markers=[], objects={}, frame_set=set_frame)


def set_frame(frame):
    context.frame = frame


def open_mainfile(filepath, load_ui, use_scripts):
    assert not load_ui and not use_scripts
    with open(filepath, encoding="utf-8") as file:
        text = file.read()
    print("OPENED", flush=True)
    if not text.startswith("{"):
        raise RuntimeError("Error: Missing DNA block\n")
    context.behavior = json.loads(text)
    context.folder = os.path.dirname(filepath)
    images = context.behavior.get("images", [])
    data.images[:] = [Space(source="FILE", packed_file=None, users=1, filepath=name, library=None) for name in images]
    context.scene = scene()
    if context.behavior.get("camera") is False:
        context.scene.camera = None


def render(write_still):
    assert write_still
    behavior, frame = context.behavior, context.frame
    print(f"RENDERING {frame} in {os.getpid()}", flush=True)
    if behavior.get("say"):
        print(behavior["say"], flush=True)
    for handler in app.handlers.render_stats:
        handler("Remaining: 00:01 | Mem: 3M | Sample 1/8")
    if behavior.get("child") and os.fork() == 0:
        os.setsid()
        time.sleep(100)
    if behavior.get("hang") == frame:
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(100)
    if behavior.get("die") == frame:
        os.kill(os.getpid(), 11)
    if behavior.get("fail") == frame:
        raise RuntimeError("Error: something is wrong\n")
    shutil.copy(os.environ["FAKE_IMAGE"], context.scene.render.filepath)


app = Space(
    version=(4, 5, 0), version_string="4.5.0 stand-in",
    handlers=Space(render_stats=[], persistent=lambda function: function),
)
ops = Space(wm=Space(open_mainfile=open_mainfile), render=Space(render=render))
data = Space(libraries=[], images=[], fonts=[])
path = Space(
    abspath=lambda path, library=None: os.path.join(context.folder, path[2:]) if path.startswith("//") else path
)
context = Space(scene=scene(), behavior={}, frame=0, folder="")
sys.modules["gpu"] = Space(platform=Space(renderer_get=lambda: "llvmpipe (stand-in)"))
