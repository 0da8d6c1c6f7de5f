"""Loads the libraries that setup.sh unpacked into .venv, so that Blender's module finds them.

Run at the start of .venv's Python by a .pth file, and only on machines that lack those libraries. The
order is that of need: the loader takes a library that is already there by its name.
"""

import ctypes
import os
import sys

NAMES = (
    "libmd.so.0 libbsd.so.0 libXau.so.6 libXdmcp.so.6 libxcb.so.1 libX11.so.6 libXext.so.6 libXrender.so.1 "
    "libXfixes.so.3 libXi.so.6 libxkbcommon.so.0 libuuid.so.1 libICE.so.6 libSM.so.6 libGLdispatch.so.0 "
    "libGLX.so.0 libGL.so.1"
)
FOLDERS = [os.path.join(sys.prefix, "libraries/files", place, "x86_64-linux-gnu") for place in ("usr/lib", "lib")]

for name in NAMES.split():
    for path in (os.path.join(folder, name) for folder in FOLDERS):
        if os.path.exists(path):
            ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
            break
