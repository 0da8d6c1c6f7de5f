"""Bridge between a Framewake worker and Blender, as program or as the `bpy` module.

    blender -b -noaudio -P bridge.py -- --socket ADDRESS
    python3 bridge.py --socket ADDRESS

It connects to the worker's Unix socket and answers one JSON object a line. Standard output is
Blender's own; the worker reads it as log. When the socket closes, the process ends.
"""

import glob
import json
import os
import queue
import re
import resource
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from run_times import forget_run_times  # noqa: E402 (it lies beside this file)

try:
    import bpy
except ImportError as error:
    # The worker's rules know this line.
    print(f"ModuleNotFoundError: {error}", file=sys.stderr, flush=True)
    sys.exit(69)

FORMATS = {
    "png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "exr": "OPEN_EXR", "tif": "TIFF", "tiff": "TIFF",
    "tga": "TARGA", "bmp": "BMP", "hdr": "HDR", "webp": "WEBP",
}
GPU_KINDS = ("OPTIX", "CUDA", "HIP", "ONEAPI", "METAL")
# Progress is for people: ten times a second is plenty.
PROGRESS_SECONDS = 0.1
MISSING_MAX = 10


class Refused(Exception):
    """Something is wrong that the worker must tell, with its verdict."""

    def __init__(self, message, verdict=None):
        super().__init__(message)
        self.verdict = verdict


class Link:
    """The socket. A thread of its own reads it, so that its end is seen in the middle of a render."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(address)
        self.lock = threading.Lock()
        self.asked = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def tell(self, **message):
        data = (json.dumps(message) + "\n").encode()
        with self.lock:
            self.socket.sendall(data)

    def _read(self):
        try:
            with self.socket.makefile("r", encoding="utf-8") as lines:
                for line in lines:
                    self.asked.put(json.loads(line))
        except OSError:
            pass
        # At once, whatever Blender does: some versions hang at a regular exit.
        os._exit(0)


class Progress:
    """Reads Blender's own status line."""

    sample = re.compile(r"Sample (\d+)/(\d+)")
    rendering = re.compile(r"Rendering (\d+) / (\d+) samples")

    def __init__(self, link):
        self.link = link
        self.told = 0.0

    def __call__(self, *arguments):
        status = next((argument for argument in arguments if isinstance(argument, str)), "")
        now = time.monotonic()
        if now - self.told < PROGRESS_SECONDS:
            return
        found = self.sample.search(status) or self.rendering.search(status)
        permille = 1000 * int(found[1]) // max(1, int(found[2])) if found else 0
        self.told = now
        try:
            self.link.tell(**{"is": "progress", "permille": permille, "note": status[:200]})
        except OSError:
            pass


def first_line(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0]


def open_scene(inputs, parameters, gpu):
    path = parameters.get("scene", "")
    if not path:
        raise Refused("the parameter `scene` names no input", "scene_error")
    path = os.path.join(inputs, path)
    if not os.path.isfile(path):
        raise Refused(f"the scene `{parameters['scene']}` is not a file", "scene_error")
    try:
        # Scripts in the file stay off: anyone may submit one.
        bpy.ops.wm.open_mainfile(filepath=path, load_ui=False, use_scripts=False)
    except RuntimeError as error:
        raise Refused(
            f"Blender cannot read the scene `{parameters['scene']}`: {first_line(error)}; hint: a newer Blender than "
            f"{bpy.app.version_string} may have saved it, then render with that one; or it is no .blend",
            "scene_error",
        ) from error
    scene = bpy.context.scene
    check_files(inputs)
    set_camera(scene, parameters.get("camera", ""))
    set_size(scene, parameters)
    set_samples(scene, parameters)
    set_device(scene, gpu)
    render = scene.render
    render.use_persistent_data = True
    render.use_overwrite = True
    render.use_placeholder = False
    render.use_file_extension = False
    if not render.use_stamp:
        # Metadata that differs from run to run would make equal frames unequal.
        for name in ("date", "render_time", "memory", "hostname", "filename"):
            if hasattr(render, f"use_stamp_{name}"):
                setattr(render, f"use_stamp_{name}", False)


def check_files(inputs):
    """Whatever the scene names must be there: Blender would render without it and say nothing."""
    missing = []
    elsewhere = []

    def need(kind, path, library=None, pattern=False):
        if not path or path == "<builtin>":
            return
        whole = os.path.normpath(bpy.path.abspath(path, library=library))
        there = bool(glob.glob(pattern_of(whole))) if pattern else os.path.exists(whole)
        if not there:
            missing.append(f"{kind} `{os.path.relpath(whole, inputs) if whole.startswith(inputs) else path}`")
            if not path.startswith("//") and not whole.startswith(inputs):
                elsewhere.append(path)

    for library in bpy.data.libraries:
        need("library", library.filepath)
    for image in bpy.data.images:
        if image.source in {"FILE", "SEQUENCE", "MOVIE", "TILED"} and not image.packed_file and image.users:
            need("image", image.filepath, image.library, pattern=image.source in {"TILED", "SEQUENCE"})
    for font in bpy.data.fonts:
        if not font.packed_file and font.users:
            need("font", font.filepath, font.library)
    for name, kind in (("movieclips", "movie clip"), ("cache_files", "cache"), ("volumes", "volume")):
        for block in getattr(bpy.data, name, ()):
            if block.users and not getattr(block, "packed_file", None):
                need(kind, block.filepath, block.library, pattern=getattr(block, "is_sequence", False))
    if missing:
        more = "" if len(missing) <= MISSING_MAX else f" and {len(missing) - MISSING_MAX} more"
        hint = "pack them into the .blend file or add them to the inputs of the step"
        if elsewhere:
            # An input alone would lie in another place than the one that the scene names.
            hint = (
                f"`{elsewhere[0]}` is a place of the machine where the scene was made: in Blender, use File > External Data > "
                "Make Paths Relative, save, and add the files to the inputs of the step; or pack them (Pack Resources)"
            )
        raise Refused(
            f"the scene needs files that are not there: {', '.join(missing[:MISSING_MAX])}{more}; hint: {hint}",
            "scene_error",
        )


def pattern_of(path):
    """A tile or sequence by any of its files."""
    folder, name = os.path.split(path)
    name = glob.escape(name).replace("<UDIM>", "*").replace("<UVTILE>", "*")
    return os.path.join(glob.escape(folder), re.sub(r"\d+(?=\D*$)", "*", name))


def set_camera(scene, name):
    if name:
        camera = scene.objects.get(name)
        if camera is None or camera.type != "CAMERA":
            cameras = ", ".join(f"`{other.name}`" for other in scene.objects if other.type == "CAMERA")
            raise Refused(f"the scene has no camera `{name}` (it has {cameras or 'none'})", "scene_error")
        scene.camera = camera
    if scene.camera is None and not any(marker.camera for marker in scene.timeline_markers):
        raise Refused(
            "the scene has no camera; hint: set the scene's camera, or the parameter `camera`", "scene_error"
        )


def set_size(scene, parameters):
    render = scene.render
    width, height = parameters.get("width", 0), parameters.get("height", 0)
    if width or height:
        share = render.resolution_percentage / 100
        render.resolution_x = width or int(render.resolution_x * share)
        render.resolution_y = height or int(render.resolution_y * share)
        render.resolution_percentage = 100


def set_samples(scene, parameters):
    samples = parameters.get("samples", 0)
    if samples and scene.render.engine == "CYCLES":
        scene.cycles.samples = samples
    elif samples and hasattr(scene, "eevee"):
        scene.eevee.taa_render_samples = samples
    if scene.render.engine != "CYCLES":
        return
    if not parameters.get("denoise", True):
        scene.cycles.use_denoising = False
    elif scene.cycles.use_denoising and scene.cycles.denoiser == "OPENIMAGEDENOISE" and not has_denoiser():
        raise Refused(
            "this Blender was built without OpenImageDenoise; hint: set the parameter `denoise: false`, "
            "or use a Blender that has it",
            "retry_elsewhere",
        )


def has_denoiser():
    try:
        import _cycles
    except ImportError:
        return True
    return getattr(_cycles, "with_openimagedenoise", True)


def set_device(scene, gpu):
    if scene.render.engine != "CYCLES":
        return
    scene.cycles.device = "CPU"
    if not gpu:
        return
    preferences = bpy.context.preferences.addons["cycles"].preferences
    for kind in GPU_KINDS:
        try:
            preferences.compute_device_type = kind
        except TypeError:
            continue
        preferences.refresh_devices() if hasattr(preferences, "refresh_devices") else preferences.get_devices()
        found = [device for device in preferences.devices if device.type == kind]
        if found:
            for device in preferences.devices:
                device.use = device.type == kind
            scene.cycles.device = "GPU"
            return


def device_used(scene):
    """What really rendered, so that a silent fall-back to the CPU is seen."""
    engine = scene.render.engine
    if engine == "CYCLES":
        if scene.cycles.device != "GPU":
            return "CPU"
        preferences = bpy.context.preferences.addons["cycles"].preferences
        kind = preferences.compute_device_type
        names = [device.name for device in preferences.devices if device.use and device.type == kind]
        return f"{kind}: {' + '.join(names)}" if kind != "NONE" and names else "CPU"
    try:
        import gpu
        name = gpu.platform.renderer_get()
    except (ImportError, SystemError):
        return ""
    software = any(word in name.lower() for word in ("llvmpipe", "softpipe", "swrast", "swiftshader"))
    return f"CPU: {name}" if software else f"OpenGL: {name}"


def set_format(settings, output):
    extension = output.rsplit(".", 1)[-1].lower()
    wanted = FORMATS.get(extension)
    if wanted is None:
        raise Refused(f"Blender writes no `.{extension}` images: use {', '.join(sorted(FORMATS))}", "scene_error")
    current = settings.file_format
    if current == wanted or (wanted == "OPEN_EXR" and current == "OPEN_EXR_MULTILAYER"):
        return
    if hasattr(settings, "media_type"):
        # Since 5.0 a format is offered only under its kind.
        settings.media_type = "IMAGE"
    settings.file_format = wanted


def render_frame(frame, output):
    scene = bpy.context.scene
    set_format(scene.render.image_settings, output)
    # Since 5.0 braces in the path are templates.
    scene.render.filepath = output.replace("{", "{{").replace("}", "}}") if bpy.app.version >= (5, 0, 0) else output
    if os.path.exists(output):
        os.remove(output)
    scene.frame_set(frame)
    if scene.camera is None:
        raise Refused(f"the scene has no camera at frame {frame}", "scene_error")
    try:
        bpy.ops.render.render(write_still=True)
    except RuntimeError as error:
        text = first_line(error)
        verdict = "scene_error" if "no camera" in text.lower() else None
        raise Refused(f"Blender did not render frame {frame}: {text}", verdict) from error
    if not os.path.isfile(output):
        raise Refused(f"Blender rendered frame {frame} and wrote no file", None)
    forget_run_times(output)
    return device_used(scene)


def flush():
    """What Blender printed must be in the pipe before the answer is on the socket."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        import ctypes
        ctypes.CDLL(None).fflush(None)
    except (ImportError, OSError, AttributeError):
        pass


def answer(link, message):
    if message["do"] == "open":
        open_scene(message["inputs"], message["parameters"], message["gpu"])
        return {"is": "opened"}
    device = render_frame(message["frame"], message["output"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"is": "rendered", "path": message["output"], "device": device, "memory_peak_bytes": peak}


def serve(link):
    link.tell(**{"is": "hello", "renderer": f"Blender {bpy.app.version_string}"})
    while True:
        message = link.asked.get()
        try:
            reply = answer(link, message)
        except Refused as refused:
            reply = {"is": "failed", "message": str(refused), "verdict": refused.verdict}
        except Exception as error:  # noqa: BLE001 (a fault in here must not end the session silently)
            import traceback
            traceback.print_exc()
            reply = {"is": "failed", "message": f"{type(error).__name__}: {first_line(error)}", "verdict": None}
        flush()
        link.tell(**reply)


def main():
    link = Link(sys.argv[sys.argv.index("--socket") + 1])
    progress = Progress(link)

    # Persistent: opening a file clears handlers that are not.
    @bpy.app.handlers.persistent
    def tell_progress(*arguments):
        progress(*arguments)

    bpy.app.handlers.render_stats.append(tell_progress)
    try:
        serve(link)
    except OSError:
        pass
    os._exit(0)


main()
