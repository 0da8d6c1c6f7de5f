"""Makes a scene to begin with, for whoever has none at hand: python3 make_scene.py scene.blend, where bpy is installed.

In the image: docker run --rm --entrypoint python3 -v "$PWD/NAME:/scene" -u "$(id -u)" NAME /scene/make_scene.py /scene/scene.blend
"""

import sys

import bpy

scene = bpy.context.scene
scene.render.engine = "CYCLES"
scene.cycles.use_denoising = False
cube = bpy.data.objects["Cube"]
for frame, turn in ((1, 0.0), (4, 1.5)):
    cube.rotation_euler.z = turn
    cube.keyframe_insert("rotation_euler", frame=frame)
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[1])
