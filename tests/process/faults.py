"""The other side of tests/faults/faults.cpp: makes disk and system fail for one server, and takes back from its folder
what a power cut might have taken.
"""

import collections
import os
import pathlib
import shutil
import struct

import pytest
from harness import BINARY

LIBRARY = BINARY.parent / "libwm_faults.so"
SECTOR = 512

WRITE, RESIZE, RENAME, UNLINK, CREATE, MKDIR, SYNC_FILE, SYNC_FOLDER = range(1, 9)
DATA_FOLDER, PARENT_FOLDER = 1, 2
ENTRY = struct.Struct("<IIQQQQQQQII")
MAGIC = 0x4A464D57


def need_library():
    """Skips where the library cannot be loaded: sanitizers come first in a process, and so must it."""
    program = BINARY.read_bytes()
    if b"__asan_init" in program or b"__tsan_init" in program:
        pytest.skip("a library loaded before the C library, and a sanitizer: not both")
    assert LIBRARY.exists(), f"{LIBRARY} is not there: build the target wm_faults"


class Counts:
    """The file of counts that the library keeps."""

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def _numbers(self):
        data = self.path.read_bytes()
        return struct.unpack_from(f"<{len(data) // 8}Q", data)

    @property
    def calls(self):
        return self._numbers()[0]

    @property
    def news(self):
        return self._numbers()[1]

    @property
    def failed(self):
        return self._numbers()[2]


def environment(**settings):
    """What a server is started with, so that WORKMILL_FAULTS_… are as given; see faults.cpp."""
    return {"LD_PRELOAD": str(LIBRARY), **{f"WORKMILL_FAULTS_{name.upper()}": str(v) for name, v in settings.items()}}


Change = collections.namedtuple("Change", "kind sequence at inode offset length size_before name new_name before")


class PowerCut:
    """A server whose power can be cut: start it with `environment`, kill it, call cut(). Then start it again."""

    def __init__(self, data, **settings):
        self.data = pathlib.Path(data)
        self.journal = self.data.with_name(self.data.name + ".unsynced")
        self.settings = settings
        self.lost = collections.Counter()  # What the cuts have taken back.
        self.syncs = 0
        self.sync_began = []  # CLOCK_MONOTONIC of each sync of a file before the last cut.

    def environment(self):
        """For one start. What lies in the folder now has been there for ever."""
        shutil.rmtree(self.journal, ignore_errors=True)
        self.journal.mkdir()
        return environment(data=self.data, journal=self.journal, **self.settings)

    def _read(self):
        path = self.journal / "journal"
        journal = path.read_bytes() if path.exists() else b""  # Killed before it was made: nothing was changed.
        changes, at = [], 0
        while at + ENTRY.size <= len(journal):
            magic, kind, sequence, ns, inode, offset, length, size, before, name, new_name = ENTRY.unpack_from(
                journal, at
            )
            end = at + ENTRY.size + name + new_name + before
            if end > len(journal):
                break  # Death came before the change.
            assert magic == MAGIC
            text = journal[at + ENTRY.size : end]
            changes.append(
                Change(
                    kind,
                    sequence,
                    ns / 1e9,
                    inode,
                    offset,
                    length,
                    size,
                    text[:name].decode(),
                    text[name : name + new_name].decode(),
                    text[name + new_name :],
                )
            )
            at = end
        return changes

    def cut(self, chance, how=None):
        """The server has been killed. Takes back what was not synced: "all" of it, all "behind" a point, cut in the
        middle of a write, or random "sectors". Returns which it was."""
        how = how or chance.choice(["all", "behind", "sectors"])
        changes = self._read()
        synced = collections.Counter()  # By inode or folder.
        self.sync_began = []
        for change in changes:
            if change.kind in (SYNC_FILE, SYNC_FOLDER):
                key = (change.kind, change.inode)
                synced[key] = max(synced[key], change.offset)
                self.syncs += 1
                if change.kind == SYNC_FILE:
                    self.sync_began.append(change.at)
        contents, names, folder = collections.defaultdict(list), [], []
        for change in changes:
            if change.kind in (WRITE, RESIZE) and change.sequence > synced[SYNC_FILE, change.inode]:
                contents[change.inode].append(change)
            elif change.kind in (RENAME, UNLINK, CREATE) and change.sequence > synced[SYNC_FOLDER, DATA_FOLDER]:
                names.append(change)
            elif change.kind == MKDIR and change.sequence > synced[SYNC_FOLDER, PARENT_FOLDER]:
                folder.append(change)

        for inode, unsynced in contents.items():
            self._take_back_content(self.journal / str(inode), unsynced, how, chance)
        # Names go to the disk in order: the file systems' own journals see to that.
        kept = 0 if how == "all" else chance.randrange(len(names) + 1)
        for change in reversed(names[kept:]):
            self._take_back_name(change)
        if folder and (how == "all" or chance.random() < 0.5):
            shutil.rmtree(self.data)
            self.lost["folders"] += 1
        self.lost["cuts, " + how] += 1
        if contents or names[kept:]:
            self.lost["cuts with something to lose"] += 1
        return how

    def _take_back_content(self, path, unsynced, how, chance):
        before_last = chance.randrange(len(unsynced) + 1)  # For "behind".
        kept_up_to = {}  # Sector → the last change that reached the disk there, for "sectors".
        with open(path, "r+b") as file:
            for index in reversed(range(len(unsynced))):
                change = unsynced[index]
                if change.kind == RESIZE:
                    if how == "all" or index >= before_last:
                        self._resize_back(file, change)
                elif how == "all":
                    self._restore(file, change, 0, change.length)
                elif how == "behind":
                    if index > before_last:
                        self._restore(file, change, 0, change.length)
                    elif index == before_last:
                        torn = chance.randrange(change.length + 1)
                        self._restore(file, change, torn, change.length)
                        self.lost["writes torn"] += 0 < torn < change.length
                else:
                    start = change.offset
                    while start < change.offset + change.length:
                        sector = start // SECTOR
                        end = min((sector + 1) * SECTOR, change.offset + change.length)
                        if sector not in kept_up_to:
                            kept_up_to[sector] = chance.randrange(-1, index + 1)
                        if index > kept_up_to[sector]:
                            self._restore(file, change, start - change.offset, end - change.offset)
                        start = end

    def _restore(self, file, change, start, end):
        """What stood in [start, end) of a write before it. Beyond the file's end as it was, zeros: nobody has synced
        that the file grew, nor that it did not."""
        before = change.before[start:end]
        before += bytes(end - start - len(before))
        file.seek(change.offset + start)
        file.write(before)
        self.lost["bytes"] += len(before)
        self.lost["writes, whole or in part"] += start == 0 or end == change.length

    def _resize_back(self, file, change):
        file.flush()
        size = os.fstat(file.fileno()).st_size
        if size > change.size_before:
            file.truncate(change.size_before)
        elif change.before:
            file.seek(change.offset)
            file.write(change.before)
        self.lost["changes of size"] += 1

    def _take_back_name(self, change):
        self.lost["names"] += 1
        path = self.data / change.name
        if change.kind == RENAME:
            new = self.data / change.new_name
            if new.exists():  # Else death came before the change.
                os.rename(new, path)
        elif change.kind == UNLINK:
            if not path.exists():
                os.link(self.journal / str(change.inode), path)
        elif change.kind == CREATE:
            path.unlink(missing_ok=True)
