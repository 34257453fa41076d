#!/usr/bin/env python3
"""Checks the links of a web site: every page is a job, which enqueues a job for every link that it finds.

    link_checker.py [URL]      without a URL the small site beside this file is served and checked

Each page is fetched once, however many link to it: its job's id is made of its address, and the server has each id
once.
Pages that answer 5xx, or not at all, are tried again. Links that lead to other hosts are not followed. Prints what is
broken; exit code 1 if anything is.
"""

from __future__ import annotations

import asyncio
import hashlib
import html.parser
import http.server
import pathlib
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from workmill import AsyncClient, AsyncJobContext, AsyncWorker, RetryableError

SITE = pathlib.Path(__file__).resolve().parent / "site"
FETCH_TIMEOUT = 10  # Seconds.
PAGE_BYTES_MAX = 1_000_000


class Links(html.parser.HTMLParser):
    """Collects where a page links to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if value and (tag, name) in (("a", "href"), ("img", "src"), ("link", "href"), ("script", "src")):
                self.found.append(value)


def fetch(url: str) -> tuple[int, str]:
    """Status and text. Text of HTML only: nothing else has links."""
    try:
        with urllib.request.urlopen(url, timeout=FETCH_TIMEOUT) as answer:
            is_html = answer.headers.get_content_type() == "text/html"
            return answer.status, answer.read(PAGE_BYTES_MAX).decode("utf-8", "replace") if is_html else ""
    except urllib.error.HTTPError as refused:
        if refused.code >= 500:
            raise RetryableError(f"{url} answered {refused.code}", code="server_error") from None
        return refused.code, ""
    except OSError as error:
        raise RetryableError(f"{url}: {error}", code="unreachable") from None


def links_of(url: str, text: str) -> list[str]:
    """Of the same host, whole and without #fragments, each once."""
    parser = Links()
    parser.feed(text)
    whole = [urllib.parse.urldefrag(urllib.parse.urljoin(url, link)).url for link in parser.found]
    host = urllib.parse.urlsplit(url).netloc
    return [link for link in dict.fromkeys(whole) if urllib.parse.urlsplit(link).netloc == host]


def page_job(queue: str, url: str, found_on: str) -> dict[str, Any]:
    return {
        "type": "page",
        "queue": queue,
        "id": f"{queue}:{hashlib.sha256(url.encode()).hexdigest()}",
        "payload": {"url": url, "found_on": found_on},
        "max_attempts": 3,
        "backoff": {"first": "200ms", "cap": "5s"},
    }


def make_worker(queue: str, client: AsyncClient) -> AsyncWorker:
    worker = AsyncWorker([queue], concurrency=8)

    @worker.job("page")
    async def check_page(ctx: AsyncJobContext) -> dict[str, int]:
        url = ctx.payload["url"]
        status, text = await asyncio.get_running_loop().run_in_executor(None, fetch, url)
        links = links_of(url, text)
        # Those that are known already answer `duplicate`. If this attempt dies behind this line, the next one does it
        # again.
        await client.enqueue_many(page_job(queue, link, url) for link in links)
        return {"status": status, "links": len(links)}

    return worker


async def check(start: str) -> int:
    queue = f"links-{time.time_ns()}"
    async with AsyncClient() as client:
        worker = make_worker(queue, client)
        working = asyncio.ensure_future(worker.run())
        await client.enqueue_job(page_job(queue, start, ""))
        # A page's links are enqueued before it is reported, so there is no moment at which all seems to be done.
        while True:
            depth = (await client.queue(queue)).depth
            if not depth["ready"] + depth["leased"] + depth["scheduled"]:
                break
            await asyncio.sleep(0.1)
        await worker.stop()
        await working
        jobs = [job async for job in client.jobs(queue=queue)]
    broken = [job for job in jobs if job.state != "completed" or job.result["status"] >= 400]
    print(f"{len(jobs)} addresses, {len(broken)} broken, {sum(job.attempt - 1 for job in jobs)} tried again")
    for job in sorted(broken, key=lambda job: str(job.payload["url"])):
        why = job.result["status"] if job.state == "completed" else job.error and job.error.message
        path = urllib.parse.urlsplit(job.payload["url"]).path
        print(f"  {path} ({why}), linked from {urllib.parse.urlsplit(job.payload['found_on']).path}")
    return 1 if broken else 0


class Site(http.server.SimpleHTTPRequestHandler):
    """The example's own site. /flaky.html fails the first time, as sites do."""

    has_failed = False

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments, directory=str(SITE))  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if self.path == "/flaky.html" and not Site.has_failed:
            Site.has_failed = True
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


def main() -> int:
    if len(sys.argv) > 1:
        return asyncio.run(check(sys.argv[1]))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        try:
            return asyncio.run(check(f"http://127.0.0.1:{site.server_address[1]}/index.html"))
        finally:
            site.shutdown()


if __name__ == "__main__":
    sys.exit(main())
