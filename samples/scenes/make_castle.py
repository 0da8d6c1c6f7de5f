"""Makes the demo scene: a small castle by a lake, flags in the wind, a camera that circles it.

Usage: python3 make_castle.py OUT.blend

Everything is made from a fixed seed, so the frames are the same on every machine with the same Blender.
"""

import math
import random
import sys

import bpy

FRAMES = 48
SEED = 7


def material(name, color, roughness=0.8, metallic=0.0, emission=0.0):
    made = bpy.data.materials.new(name)
    made.use_nodes = True
    shader = made.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (*color, 1.0)
    shader.inputs["Roughness"].default_value = roughness
    shader.inputs["Metallic"].default_value = metallic
    if emission:
        shader.inputs["Emission Color"].default_value = (*color, 1.0)
        shader.inputs["Emission Strength"].default_value = emission
    return made


def stone():
    made = material("stone", (0.42, 0.38, 0.33))
    nodes, links = made.node_tree.nodes, made.node_tree.links
    noise = nodes.new("ShaderNodeTexNoise")
    noise.inputs["Scale"].default_value = 6.0
    ramp = nodes.new("ShaderNodeValToRGB")
    ramp.color_ramp.elements[0].color = (0.22, 0.19, 0.17, 1)
    ramp.color_ramp.elements[1].color = (0.62, 0.57, 0.5, 1)
    links.new(noise.outputs["Fac"], ramp.inputs["Fac"])
    links.new(ramp.outputs["Color"], nodes["Principled BSDF"].inputs["Base Color"])
    return made


def paint(obj, look):
    obj.data.materials.append(look)
    return obj


def tower(x, y, height, radius, wall, roof, flag):
    bpy.ops.mesh.primitive_cylinder_add(vertices=24, radius=radius, depth=height, location=(x, y, height / 2))
    paint(bpy.context.object, wall)
    for step in range(8):
        angle = step * math.tau / 8
        place = (x + radius * math.cos(angle), y + radius * math.sin(angle), height + 0.12)
        bpy.ops.mesh.primitive_cube_add(size=0.28, location=place, rotation=(0, 0, angle))
        paint(bpy.context.object, wall)
    bpy.ops.mesh.primitive_cone_add(vertices=24, radius1=radius * 0.95, depth=1.3, location=(x, y, height + 0.7))
    paint(bpy.context.object, roof)
    top = height + 1.35
    bpy.ops.mesh.primitive_cylinder_add(vertices=8, radius=0.025, depth=0.9, location=(x, y, top + 0.3))
    paint(bpy.context.object, wall)
    bpy.ops.mesh.primitive_plane_add(size=1, location=(x, y, top + 0.62))
    banner = paint(bpy.context.object, flag)
    banner.scale = (0.55, 0.28, 1)
    for frame in range(1, FRAMES + 1, 4):
        sway = 0.35 * math.sin(frame * math.tau / 16 + x)
        banner.rotation_euler = (math.pi / 2, 0, 0.6 + sway)
        banner.location.x = x + 0.28 * math.cos(0.6 + sway)
        banner.location.y = y + 0.28 * math.sin(0.6 + sway)
        banner.keyframe_insert("rotation_euler", frame=frame)
        banner.keyframe_insert("location", frame=frame)


def build():
    bpy.ops.wm.read_factory_settings(use_empty=True)
    chance = random.Random(SEED)
    wall, roof = stone(), material("roof", (0.45, 0.09, 0.07), 0.6)
    flag = material("flag", (0.95, 0.65, 0.08), 0.5)
    grass, leaf = material("grass", (0.1, 0.24, 0.06)), material("leaf", (0.05, 0.2, 0.07))
    trunk, water = material("trunk", (0.13, 0.07, 0.04)), material("water", (0.02, 0.1, 0.16), 0.05)
    lamp = material("window", (1.0, 0.7, 0.25), emission=6.0)

    bpy.ops.mesh.primitive_plane_add(size=60)
    paint(bpy.context.object, water)
    bpy.ops.mesh.primitive_cylinder_add(vertices=64, radius=6.5, depth=0.5, location=(0, 0, 0.0))
    paint(bpy.context.object, grass)

    corners = [(2.2, 2.2), (-2.2, 2.2), (-2.2, -2.2), (2.2, -2.2)]
    for at, (x, y) in enumerate(corners):
        tower(x, y, 2.6 + 0.25 * at, 0.62, wall, roof, flag)
        nx, ny = corners[(at + 1) % 4]
        middle = ((x + nx) / 2, (y + ny) / 2, 0.9)
        turn = math.atan2(ny - y, nx - x)
        bpy.ops.mesh.primitive_cube_add(size=1, location=middle, rotation=(0, 0, turn))
        bpy.context.object.scale = (4.4, 0.4, 1.8)
        paint(bpy.context.object, wall)
    tower(0, 0, 4.2, 0.95, wall, roof, flag)
    for at in range(6):
        angle = at * math.tau / 6
        place = (0.93 * math.cos(angle), 0.93 * math.sin(angle), 3.2)
        bpy.ops.mesh.primitive_cube_add(size=0.22, location=place, rotation=(0, 0, angle))
        paint(bpy.context.object, lamp)

    for _ in range(26):
        angle, far = chance.uniform(0, math.tau), chance.uniform(4.2, 6.1)
        x, y, tall = far * math.cos(angle), far * math.sin(angle), chance.uniform(0.6, 1.3)
        bpy.ops.mesh.primitive_cylinder_add(vertices=8, radius=0.07, depth=0.4, location=(x, y, 0.4))
        paint(bpy.context.object, trunk)
        bpy.ops.mesh.primitive_cone_add(vertices=12, radius1=0.38, depth=tall, location=(x, y, 0.5 + tall / 2))
        paint(bpy.context.object, leaf)

    light_and_camera()


def light_and_camera():
    scene = bpy.context.scene
    world = bpy.data.worlds.new("dusk")
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.28, 0.4, 0.62, 1)
    world.node_tree.nodes["Background"].inputs["Strength"].default_value = 0.7
    scene.world = world
    bpy.ops.object.light_add(type="SUN", rotation=(math.radians(58), 0, math.radians(35)))
    bpy.context.object.data.energy = 4.0
    bpy.context.object.data.color = (1.0, 0.82, 0.62)
    bpy.context.object.data.angle = math.radians(2)

    bpy.ops.object.empty_add(location=(0, 0, 2.6))
    target = bpy.context.object
    bpy.ops.object.camera_add()
    camera = bpy.context.object
    camera.data.lens = 28
    look = camera.constraints.new("TRACK_TO")
    look.target = target
    for frame in range(1, FRAMES + 1):
        angle = math.radians(-60) + math.radians(90) * (frame - 1) / (FRAMES - 1)
        camera.location = (11.5 * math.cos(angle), 11.5 * math.sin(angle), 3.4 + 1.6 * frame / FRAMES)
        camera.keyframe_insert("location", frame=frame)
    scene.camera = camera

    scene.frame_start, scene.frame_end = 1, FRAMES
    scene.render.engine = "CYCLES"
    scene.render.resolution_x, scene.render.resolution_y = 480, 270
    scene.render.resolution_percentage = 100
    scene.cycles.device = "CPU"
    scene.cycles.samples = 8
    scene.cycles.seed = SEED
    scene.cycles.use_denoising = False
    scene.cycles.use_adaptive_sampling = True
    scene.cycles.max_bounces = 3
    scene.view_settings.view_transform = "AgX"


if __name__ == "__main__":
    build()
    bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1], compress=True)
