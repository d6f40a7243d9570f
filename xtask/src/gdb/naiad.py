# Commands for gdb that know a running machine's tasks, threads, calls and handles, and walk the stacks of threads that
# wait. xtask puts what it knows of the build before this text: SERVERS (name and image of each), KERNEL (the image),
# CALLS (Linux's names) and TRAPS (the native calls' names and counts of arguments). What the kernel's objects look like
# is read from the image's own types.
import gdb

PAGE = 4096
# Of an arena's place: it is free.
FREE = 1 << 31


def raw(value):
    """The bytes of a value as one number: names of objects, and those that may be none."""
    memory = gdb.selected_inferior().read_memory(int(value.address), value.type.sizeof)
    return int.from_bytes(bytes(memory), "little")


def short(value):
    """An enum's variant, without the path before it."""
    return str(value).split("(")[0].split("{")[0].strip().split("::")[-1]




def kernel():
    core = gdb.parse_and_eval("microkernel::arch::x86_64::trap::CORE")
    while not (core.type.name or "").startswith("microkernel::core::Kernel<"):
        fields = [field for field in core.type.fields() if field.type.sizeof > 0]
        core = core[fields[-1]]
    return core


def objects(arena):
    """The objects in use, with their names as words."""
    slots = arena["slots"]
    pointer, length = slots["data_ptr"], min(int(slots["length"]), int(arena["fresh"]))
    for index in range(length):
        slot = pointer[index]
        name = int(slot["name"])
        if name & FREE == 0:
            yield name, slot["value"]


def named(arena, word):
    """The object with this name, if it still lives."""
    slots = arena["slots"]
    index = word & 0xffffffff
    if word == 0 or index >= int(slots["length"]):
        return None
    slot = slots["data_ptr"][index]
    return slot["value"] if int(slot["name"]) == word else None


def server_name(number):
    return SERVERS[number - 1][0] if 0 < number <= len(SERVERS) else "?"


def servers():
    for name, server in objects(kernel()["servers"]):
        yield name, server, int(server["number"])


def server_called(text):
    for name, server, number in servers():
        if text in (server_name(number), str(number)):
            return server
    raise gdb.GdbError("there is no server %s: naiad servers lists them" % text)


def whose(task_word):
    """A task in words: a server's name, or a process's number."""
    task = named(kernel()["tasks"], task_word)
    if task is None:
        return "(gone)"
    server = named(kernel()["servers"], raw(task["server"]))
    if server is not None:
        return server_name(int(server["number"]))
    return "process %d" % int(task["words"][0])


def call_name(call):
    kind, label = short(call["kind"]), int(call["label"])
    if kind == "Foreign":
        return CALLS[int(call["number"])] if int(call["number"]) < len(CALLS) else "call %d" % label
    if kind == "Fault":
        return "fault at %#x" % int(call["tag"])
    return "%s %#x" % (kind.lower(), label)


def now_ns():
    """When the newest call was made: the machine stands still, and so does its time."""
    times = [int(call["since"]) for _, call in objects(kernel()["calls"])]
    return max(times, default=0)


def table(rows):
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())


def calls():
    """All that are not answered yet: name, call, who waits, for whom."""
    for name, call in objects(kernel()["calls"]):
        if short(call["phase"]) != "Answered":
            server = named(kernel()["servers"], raw(call["server"]))
            whom = server_name(int(server["number"])) if server is not None else "(gone)"
            yield name, call, whose(raw(call["task"])), whom


def circles():
    """Servers that wait for each other in a circle."""
    waits = {}
    for _, call, who, whom in calls():
        if short(call["kind"]) == "Native":
            waits.setdefault(who, set()).add(whom)

    def reaches(start, at, seen):
        return any(
            to == start or to not in seen and reaches(start, to, seen | {to}) for to in waits.get(at, ())
        )

    return {who for who in waits if reaches(who, who, {who})}


class Naiad(gdb.Command):
    """Looks at a Naiad machine: tasks, threads, waits, servers, handles SERVER, journal SERVER, bt TID|SERVER."""

    def __init__(self):
        super().__init__("naiad", gdb.COMMAND_STATUS, prefix=True)


class Tasks(gdb.Command):
    """All tasks: servers, and processes with their program's thread ids."""

    def __init__(self):
        super().__init__("naiad tasks", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        rows = [("task", "who", "pages", "threads")]
        for name, task in objects(kernel()["tasks"]):
            space = named(kernel()["spaces"], raw(task["space"]))
            pages = int(space["mapped_pages"]) if space is not None else 0
            own = [str(int(t["tid"])) for _, t in objects(kernel()["threads"]) if raw(t["task"]) == name]
            rows.append((name & 0xffffffff, whose(name), pages, " ".join(own)))
        table(rows)


class Threads(gdb.Command):
    """All threads: whose they are, what they do, and where they entered the kernel."""

    def __init__(self):
        super().__init__("naiad threads", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        waiting = {raw(call["thread"]): (call, whom) for _, call, _, whom in calls()}
        current = raw(kernel()["current"])
        rows = [("", "tid", "whose", "state", "at", "for")]
        for name, thread in objects(kernel()["threads"]):
            call, whom = waiting.get(name, (None, ""))
            what = "%s of %s" % (call_name(call), whom) if call is not None else ""
            state = short(thread["state"]) + (" (stopped)" if raw(thread["stopped"]) else "")
            at = "%#x" % int(thread["registers"]["rip"])
            rows.append(("*" if name == current else "", int(thread["tid"]), whose(raw(thread["task"])), state, at, what))
        table(rows)


class Waits(gdb.Command):
    """Who waits for whom, for what, and since when. A circle is marked."""

    def __init__(self):
        super().__init__("naiad waits", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        caught, now = circles(), now_ns()
        rows = [("", "who", "for", "call", "state", "seconds")]
        for _, call, who, whom in calls():
            mark = "CIRCLE" if who in caught and whom in caught else ""
            seconds = "%.3f" % ((now - int(call["since"])) / 1e9)
            rows.append((mark, who, whom, call_name(call), short(call["phase"]).lower(), seconds))
        table(rows)


class Servers(gdb.Command):
    """All servers: state, incarnation, messages received."""

    def __init__(self):
        super().__init__("naiad servers", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        rows = [("number", "name", "state", "incarnation", "messages", "deaths")]
        for _, server, number in servers():
            deaths = int(server["deaths"][0]) + int(server["deaths"][1])
            rows.append((number, server_name(number), short(server["state"]), int(server["incarnation"]),
                         int(server["received"]), deaths))
        table(rows)


class Handles(gdb.Command):
    """The handles of a server, by name or number."""

    def __init__(self):
        super().__init__("naiad handles", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        server = server_called(argument.strip())
        handles = named(kernel()["tables"], raw(server["table"]))
        rows = [("handle", "object", "rights")]
        rows += self.chunk(handles["first"], 0)
        for row_index in range(32):
            row = named(kernel()["rows"], raw(handles["rows"][row_index]))
            for index in range(32) if row is not None else ():
                chunk = named(kernel()["chunks"], raw(row[index]))
                if chunk is not None:
                    rows += self.chunk(chunk, 64 * (32 * row_index + index))
        table(rows)

    def chunk(self, chunk, first):
        for index in range(64):
            slot = chunk["slots"][index]
            if short(slot["object"]) != "None":
                what = short(slot["object"]) + self.what(slot["object"])
                yield (first + index, what, "%#x" % raw(slot["rights"]))

    def what(self, held):
        """Whom a handle leads to."""
        word, kind = raw(held) >> 64 if held.type.sizeof == 16 else 0, short(held)
        if kind in ("Session", "OwnSession"):
            session = named(kernel()["sessions"], word)
            return "" if session is None else " of %s, badge %#x" % (
                server_name(int(session["server_number"])), raw(session["badge"]))
        if kind == "Task":
            return " " + whose(word)
        if kind == "Inbox":
            server = named(kernel()["servers"], word)
            return "" if server is None else " of " + server_name(int(server["number"]))
        return ""


def physical(address, length):
    """Bytes of physical memory, which QEMU reads."""
    gdb.execute("maintenance packet Qqemu.PhyMemMode:1", to_string=True)
    try:
        return bytes(gdb.selected_inferior().read_memory(address, length))
    finally:
        gdb.execute("maintenance packet Qqemu.PhyMemMode:0", to_string=True)


class Journal(gdb.Command):
    """How full a server's journal is, and its last records: journal SERVER [COUNT]."""

    def __init__(self):
        super().__init__("naiad journal", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        words = argument.split()
        server = server_called(words[0] if words else "")
        journal = server["journal"]
        if "None" in short(journal):
            raise gdb.GdbError("%s has no journal" % words[0])
        while "memory" not in [field.name for field in journal.type.fields()]:
            journal = journal[journal.type.fields()[-1]]
        start, end = raw(journal["memory"]["first"]) * PAGE, int(journal["end"])
        print("%d bytes since snapshot %d" % (end, int(journal["snapshots_made"])))
        names = self.records(physical(start, end) if end else b"")
        count = int(words[1]) if len(words) > 1 else 16
        for line in names[-count:]:
            print("  " + line)

    def records(self, journal):
        lines, at = [], 0
        while at + 8 <= len(journal):
            word = int.from_bytes(journal[at:at + 8], "little")
            number, values, payload = word & 0xffff, word >> 24 & 0xff, word >> 32
            name, count = TRAPS[number] if number < len(TRAPS) else ("disposed", 0)
            arguments = [int.from_bytes(journal[at + 8 * n:at + 8 * n + 8], "little") for n in range(1, 1 + count)]
            lines.append("%s(%s)" % (name, ", ".join("%#x" % argument for argument in arguments)))
            at += 8 * (1 + count + values) + (payload + 7 & ~7)
        return lines


class Backtrace(gdb.Command):
    """The stack of a thread that does not run, by thread id or server: bt TID|SERVER. Of a program, name its file first:
    bt TID FILE."""

    REGISTERS = ("rip", "rsp", "rbp", "rbx", "r12", "r13", "r14", "r15", "rax", "rcx", "rdx", "rsi", "rdi",
                 "r8", "r9", "r10", "r11")

    def __init__(self):
        super().__init__("naiad bt", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        words = argument.split()
        if not words:
            raise gdb.GdbError("whose stack? naiad threads lists them")
        thread, image = self.find(words[0])
        image = words[1] if len(words) > 1 else image
        wanted = {name: int(thread["registers"][name]) for name in self.REGISTERS}
        wanted["cr3"] = raw(thread["top"]) * PAGE
        before = {name: int(gdb.parse_and_eval("$" + name).format_string(format="x"), 16) for name in wanted}
        # The registers of the processor are those of the thread meanwhile, its address space among them.
        if image:
            gdb.execute("add-symbol-file %s" % image, to_string=True)
        try:
            self.put(wanted)
            gdb.execute("backtrace")
        finally:
            self.put(before)
            if image:
                gdb.execute("remove-symbol-file %s" % image, to_string=True)

    def put(self, registers):
        # gdb has no assignment to a register of flags: QEMU is told directly.
        lines = gdb.execute("maintenance print remote-registers", to_string=True).splitlines()
        number = next(int(line.split()[-2]) for line in lines if line.split()[:1] == ["cr3"])
        value = registers["cr3"].to_bytes(8, "little").hex()
        gdb.execute("maintenance packet P%x=%s" % (number, value), to_string=True)
        for name in self.REGISTERS:
            gdb.execute("set $%s = %d" % (name, registers[name]), to_string=True)
        gdb.execute("maintenance flush register-cache", to_string=True)

    def find(self, text):
        for _, server, number in servers():
            if text == server_name(number):
                thread = named(kernel()["threads"], raw(server["thread"]))
                return thread, SERVERS[number - 1][1]
        for _, thread in objects(kernel()["threads"]):
            if text == str(int(thread["tid"])) and raw(thread["server"]) == 0:
                return thread, None
        raise gdb.GdbError("there is no thread %s" % text)


for command in (Naiad, Tasks, Threads, Waits, Servers, Handles, Journal, Backtrace):
    command()
for setting in ("pagination off", "confirm off", "language rust", "stack-cache off", "code-cache off",
                "print thread-events off"):
    gdb.execute("set " + setting)
gdb.execute("file " + KERNEL)
gdb.execute("target remote " + TARGET)
