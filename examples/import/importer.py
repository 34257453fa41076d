#!/usr/bin/env python3
"""Imports a CSV file into a database, and survives being killed.

    importer.py sample FILE [--rows 100000]      writes a CSV file to play with
    importer.py enqueue FILE                     one job: import this file. Prints its id
    importer.py work DATABASE [--pace N]         the worker; N rows a second at most, to be gentle with the database
    importer.py wait ID                          shows how far it is, until it is finished

The handler saves after each batch of rows how many it has written. Kill it (kill -9) and start it again: the next
attempt begins behind the last batch, and not at the top. That a batch may be written twice, when the kill comes between
the database's commit and the checkpoint, is harmless: rows have keys, and are written over.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import os
import pathlib
import sqlite3
import sys
import time

from workmill import Client, JobContext, UserError, Worker

QUEUE = "import"
BATCH = 500  # Rows of one commit and one checkpoint.
COLUMNS = ("id", "name", "city")


def sample(path: str, rows: int) -> None:
    cities = ("Lisboa", "Łódź", "Reykjavík", "Sóller", "Zürich")
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in range(1, rows + 1):
            writer.writerow((number, f"customer {number}", cities[number % len(cities)]))


def import_file(ctx: JobContext, database: sqlite3.Connection, pace: int) -> dict[str, int]:
    path = ctx.payload["file"]
    try:
        file = open(path, newline="", encoding="utf-8")
    except FileNotFoundError:
        # Trying again would not help: the job is dead at once, with this message.
        raise UserError(f"there is no file {path}", code="no_such_file") from None
    with file:
        lines = csv.reader(file)
        if tuple(next(lines, ())) != COLUMNS:
            raise UserError(f"the columns of {path} are not {', '.join(COLUMNS)}", code="bad_columns")
        resumed_at = (ctx.last_checkpoint or {"rows": 0})["rows"]
        done = resumed_at
        rows = itertools.islice(lines, done, None)
        while True:
            batch = list(itertools.islice(rows, BATCH))
            if not batch:
                return {"rows": done, "resumed_at": resumed_at}
            with database:  # One transaction.
                database.executemany("INSERT OR REPLACE INTO customers VALUES (?, ?, ?)", batch)
            done += len(batch)
            ctx.checkpoint({"rows": done})  # Durable when it returns.
            read = os.lseek(file.fileno(), 0, os.SEEK_CUR)
            ctx.progress(100 * read / os.fstat(file.fileno()).st_size, f"{done} rows")
            if pace and ctx.wait_cancelled(len(batch) / pace):
                ctx.check()


def work(path: str, pace: int, lease: str) -> None:
    with contextlib.closing(sqlite3.connect(path, check_same_thread=False)) as database:
        database.execute("CREATE TABLE IF NOT EXISTS customers (id INTEGER PRIMARY KEY, name TEXT, city TEXT)")
        # One file at a time: SQLite has one writer. A dead worker is noticed after `lease` at the latest.
        worker = Worker([QUEUE], concurrency=1, lease=lease)

        @worker.job("csv")
        def import_csv(ctx: JobContext) -> dict[str, int]:
            return import_file(ctx, database, pace)

        worker.run()


def wait(client: Client, id: str) -> int:
    while True:
        job = client.wait(id, timeout=1)
        if job.state == "completed":
            print(
                f"{job.result['rows']} rows; the last attempt ({job.attempt}) began at row {job.result['resumed_at']}"
            )
            return 0
        if job.finished:
            print(f"{job.state}: {job.error.message if job.error else ''}", file=sys.stderr)
            return 1
        if job.progress is not None:
            print(f"{job.state}, attempt {job.attempt}: {job.progress.percent} %, {job.progress.message}", flush=True)
        time.sleep(0.2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("sample")
    make.add_argument("file")
    make.add_argument("--rows", type=int, default=100_000)
    commands.add_parser("enqueue").add_argument("file")
    worker = commands.add_parser("work")
    worker.add_argument("database")
    worker.add_argument("--pace", type=int, default=0)
    worker.add_argument("--lease", default="10s")
    commands.add_parser("wait").add_argument("id")
    options = parser.parse_args()

    if options.command == "sample":
        sample(options.file, options.rows)
    elif options.command == "work":
        work(options.database, options.pace, options.lease)
    elif options.command == "enqueue":
        with Client() as client:
            path = str(pathlib.Path(options.file).resolve())
            # Whoever sends the same file again while it is imported gets the job that is there.
            print(client.enqueue("csv", {"file": path}, queue=QUEUE, unique={"key": path}).id)
    else:
        with Client() as client:
            return wait(client, options.id)
    return 0


if __name__ == "__main__":
    sys.exit(main())
