"""Loads, before any cell is forked, the shared libraries that the standard library may ask for.

What is mapped already needs no file: no cell sees a library folder.
"""

import ctypes
import glob
import json
import os
import sys
from collections.abc import Iterable

# Terminals, windows and old databases: of no use where there is no terminal, and much to map.
_UNWANTED = ("_tkinter", "readline", "_curses", "_dbm", "_gdbm", "nis", "ossaudiodev", "spwd", "_test", "_xx", "xx")
FOR_THREADS = ("libgcc_s.so.1",)  # glibc loads it when a thread ends
# What a wheel for Linux may expect of any system and the standard library does not.
FOR_PACKAGES = ("libstdc++.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1")


def preload() -> None:
    """Map every library that an extension module of the standard library needs."""
    for path in (*_needed(), *FOR_THREADS, *FOR_PACKAGES):
        try:
            ctypes.CDLL(path)
        except OSError:
            # WHY: not mapped means not importable inside; the module says so itself, by name.
            continue


def _needed() -> list[str]:
    """Find the libraries by loading the modules in a process that is thrown away."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, json.dumps(_mapped_after(_extension_modules())).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    found = json.loads(told or b"[]")
    return [each for each in found if isinstance(each, str)]


def _extension_modules() -> list[str]:
    return [os.path.join(folder, name) for folder in module_folders() for name in modules_in(folder)]


def module_folders() -> list[str]:
    """Name the folders of this interpreter that hold the extension modules of its standard library."""
    return [each for each in sys.path if os.path.basename(each) == "lib-dynload"]


def modules_in(folder: str) -> list[str]:
    """Name the extension modules in a folder that are of use in a cell."""
    names = sorted(map(os.path.basename, glob.glob(os.path.join(glob.escape(folder), "*.so"))))
    return [name for name in names if not name.startswith(_UNWANTED)]


def _mapped_after(modules: Iterable[str]) -> list[str]:
    loaded = set()
    for path in modules:
        try:
            ctypes.CDLL(path)
        except OSError:
            continue
        loaded.add(path)
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        mapped = {line.rstrip("\n").partition("/")[2] for line in file if "/" in line}
    return sorted(f"/{path}" for path in mapped if ".so" in path and f"/{path}" not in loaded)
