"""What a user does in Blender, as a script for `blender --background --python`.

Arguments behind "--": the add-on, the clip, the command. Facts are printed as one line of JSON.
"""

import importlib.util
import json
import sys

import bpy


def main():
    addon_file, clip_file, command = sys.argv[sys.argv.index("--") + 1 :]
    spec = importlib.util.spec_from_file_location("vidmatte_addon", addon_file)
    addon = importlib.util.module_from_spec(spec)
    sys.modules["vidmatte_addon"] = addon
    spec.loader.exec_module(addon)
    addon.register()
    scene = bpy.context.scene
    clip = bpy.data.movieclips.load(clip_file)
    clip.frame_start = 11
    scene.active_clip = clip
    scene.vidmatte.command = command
    facts = {"unmarked": attempt()}
    # On the object, on frame 1; and beside it. Tracks count from the bottom left corner.
    mark(clip, "Track", 1, 0.3, 0.5)
    mark(clip, "background.001", 1, 0.9, 0.1)
    facts["source"] = addon.source_of(clip)
    facts["prompts"] = addon.prompts_of(clip)
    facts["result"] = attempt()
    # Once more: the nodes of the first run are replaced.
    facts["again"] = attempt()
    nodes = scene.node_tree.nodes
    matte = next(node for node in nodes if node.type == "IMAGE")
    facts["labels"] = sorted(node.type for node in nodes if node.label)
    facts["matte"] = {
        "source": matte.image.source,
        "space": matte.image.colorspace_settings.name,
        "file": matte.image.filepath,
        "duration": matte.frame_duration,
        "start": matte.frame_start,
        "offset": matte.frame_offset,
        "size": list(matte.image.size),
    }
    facts["links"] = sorted(
        [link.from_node.type, link.to_node.type, link.to_socket.name]
        for link in scene.node_tree.links
        if link.from_node.label
    )
    facts["pixels"] = rendered(scene, frame=11)
    scene.vidmatte.command = "/nowhere/vidmatte"
    facts["no_command"] = attempt()
    addon.unregister()
    facts["left"] = hasattr(bpy.types.Scene, "vidmatte")
    sys.stdout.write(f"FACTS {json.dumps(facts)}\n")


def attempt():
    """Press the button; the error that Blender raises for a report is the answer then."""
    try:
        return list(bpy.ops.vidmatte.matte())
    except RuntimeError as error:
        return str(error)


def mark(clip, name, frame, x, y):
    """Ctrl-click in the clip editor."""
    track = clip.tracking.tracks.new(name=name, frame=frame)
    track.markers.find_frame(frame).co = (x, y)
    assert track.markers.find_frame(frame).is_keyed


def rendered(scene, *, frame):
    """Alpha of the composite at the middle of the object and at a corner."""
    tree = scene.node_tree
    alpha = next(node for node in tree.nodes if node.type == "SETALPHA")
    composite = tree.nodes.new("CompositorNodeComposite")
    tree.links.new(alpha.outputs["Image"], composite.inputs["Image"])
    for node in [node for node in tree.nodes if node.type == "R_LAYERS"]:
        tree.nodes.remove(node)
    scene.render.resolution_x, scene.render.resolution_y = alpha_size = scene.active_clip.size
    scene.render.resolution_percentage = 100
    scene.render.film_transparent = True
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGBA"
    scene.render.filepath = bpy.path.abspath(scene.active_clip.filepath) + ".composite.png"
    scene.frame_set(frame)
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(scene.render.filepath)
    width, height = alpha_size
    values = list(image.pixels)

    def alpha_at(x, y):
        return values[(int(y * height) * width + int(x * width)) * 4 + 3]

    return [alpha_at(0.3, 0.5), alpha_at(0.95, 0.05)]


main()
