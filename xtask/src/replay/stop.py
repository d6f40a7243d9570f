# Runs a replay to the message in NAIAD_STOP_BEFORE, or to the server's panic, and selects the server's own frame there.
import os

import gdb

MESSAGE = "xtask::replay::gdb::message_begins"
PANIC = "xtask::replay::gdb::server_panics"

# Frames of these are how a panic comes about, and not where.
LIBRARY = ("std::", "core::", "alloc::", "rust_", "__rust", "xtask::replay::", "<alloc::", "<core::", "<std::")


def is_library(frame):
    name = frame.name() or ""
    symtab = frame.find_sal().symtab
    return name.startswith(LIBRARY) or symtab is None or "/library/" in symtab.filename


def select_server():
    frame = gdb.selected_frame()
    while frame is not None and is_library(frame):
        frame = frame.older()
    if frame is not None:
        frame.select()
        print("replay: stopped in %s" % frame.name())
        gdb.execute("frame")


before = os.environ.get("NAIAD_STOP_BEFORE", "")
gdb.execute("set pagination off")
gdb.execute("set width 0")
gdb.execute("set print thread-events off")
gdb.execute("break %s" % PANIC)
if before:
    gdb.execute("break %s if number == %d" % (MESSAGE, int(before)))
gdb.execute("run")
if gdb.selected_inferior().pid:
    name = gdb.newest_frame().name()
    if name == PANIC:
        print("replay: the server panics")
        select_server()
    elif name == MESSAGE:
        print("replay: message %s is about to be served; `finish` and `step` lead into the server" % before)
