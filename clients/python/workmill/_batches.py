"""Sets of jobs whose end enqueues one or two more. `client.batches` makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Iterator, Mapping, Optional, Protocol, TypeVar, Union

from . import _calls
from ._cache import Hooked, HookedAsync, Runs, RunsAsync
from ._calls import Call, Page
from ._models import Batch, NewJob

if TYPE_CHECKING:
    from ._models import BatchState

T = TypeVar("T")
Callback = Union[NewJob, Mapping[str, Any]]


class Lists(Runs, Protocol):
    """Of a client: goes through lists, too."""

    def _pages(self, call: Callable[[Optional[str]], Call[Page[T]]]) -> Iterator[T]: ...


class ListsAsync(RunsAsync, Protocol):
    def _pages(self, call: Callable[[Optional[str]], Call[Page[T]]]) -> AsyncIterator[T]: ...


class Batches:
    """The batches of a server. Safe for several threads, as the client is.

    Jobs are put into a batch by their option `batch`, from any program, until it is closed. Its callbacks are jobs as
    enqueue_job() takes them, without `id`, `unique` and `batch`, and 64 KiB at most.
    """

    def __init__(self, client: Lists, hooked: Hooked) -> None:
        self._client = client
        self._hooked = hooked

    def create(
        self,
        id: Optional[str] = None,
        *,
        on_success: Optional[Callback] = None,
        on_finish: Optional[Callback] = None,
        meta: Optional[Mapping[str, Any]] = None,
        idempotency_key: Optional[str] = None,
    ) -> Batch:
        """Makes a batch, durably; at least one callback is needed, and they are checked now.

        on_success: enqueued once, when the batch is closed and all of its jobs are completed. on_finish: enqueued once, when
        the batch is closed and each of its jobs has ended for the first time: completed, dead, cancelled or deleted.
        id: one of your own; the same batch made again under it is the one that is there. Else the server makes one.
        Raises UserError with the code `batch_exists` where another batch has this id."""
        hooked = [None if job is None else self._hooked(job) for job in (on_success, on_finish)]
        call = _calls.create_batch(id, hooked[0], hooked[1], meta, idempotency_key)
        return self._client._run(self._client._traced(call))

    def close(self, id: str) -> Batch:
        """All its jobs are sent: it takes no more, and calls back when its time has come. Once more is no error."""
        return self._client._run(_calls.close_batch(id))

    def get(self, id: str) -> Batch:
        """How far it is. UserError with the code `batch_not_found`: there is none, or no longer."""
        return self._client._run(_calls.get_batch(id))

    def list(self, *, state: Optional[BatchState] = None, page: int = 100) -> Iterator[Batch]:
        """All batches, or those in that state, newest first, `page` a call (1,000 at most). open: it takes jobs. closed: it
        waits for the end of jobs, or for the retry of dead or cancelled ones. over: nothing more comes of it."""
        return self._client._pages(lambda cursor: _calls.batches_page(state, page, cursor))

    def delete(self, id: str) -> None:
        """Forgets it. Its jobs stay, and what it has not enqueued by then never comes."""
        self._client._run(_calls.delete_batch(id))


class AsyncBatches:
    """Batches for asyncio; see there."""

    def __init__(self, client: ListsAsync, hooked: HookedAsync) -> None:
        self._client = client
        self._hooked = hooked

    async def create(
        self,
        id: Optional[str] = None,
        *,
        on_success: Optional[Callback] = None,
        on_finish: Optional[Callback] = None,
        meta: Optional[Mapping[str, Any]] = None,
        idempotency_key: Optional[str] = None,
    ) -> Batch:
        hooked = [None if job is None else await self._hooked(job) for job in (on_success, on_finish)]
        call = _calls.create_batch(id, hooked[0], hooked[1], meta, idempotency_key)
        return await self._client._run(self._client._traced(call))

    async def close(self, id: str) -> Batch:
        return await self._client._run(_calls.close_batch(id))

    async def get(self, id: str) -> Batch:
        return await self._client._run(_calls.get_batch(id))

    def list(self, *, state: Optional[BatchState] = None, page: int = 100) -> AsyncIterator[Batch]:
        return self._client._pages(lambda cursor: _calls.batches_page(state, page, cursor))

    async def delete(self, id: str) -> None:
        await self._client._run(_calls.delete_batch(id))
