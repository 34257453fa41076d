"""Client and worker for Workmill, a durable background-job server."""

from ._async_client import AsyncClient
from ._batches import AsyncBatches, Batches
from ._cache import AsyncCache, Cache
from ._client import Client
from ._context import AsyncJobContext, JobContext
from ._errors import (
    CachePending,
    Cancelled,
    FatalError,
    JobFailed,
    JobNotFound,
    LeaseLost,
    NoServer,
    RetryableError,
    UserError,
    WorkmillError,
)
from ._hooks import AsyncEnqueueHook, EnqueueHook
from ._models import (
    Backoff,
    Batch,
    BatchCallback,
    Cached,
    Enqueued,
    Job,
    JobError,
    JobOptions,
    Leased,
    NewJob,
    Progress,
    Queue,
    Reported,
    Unique,
)
from ._retry import RetryPolicy
from ._worker import AsyncWorker, Worker

__version__ = "0.1.0"

__all__ = [
    "AsyncBatches",
    "AsyncCache",
    "AsyncClient",
    "AsyncEnqueueHook",
    "AsyncJobContext",
    "AsyncWorker",
    "Backoff",
    "Batch",
    "BatchCallback",
    "Batches",
    "Cache",
    "CachePending",
    "Cached",
    "Cancelled",
    "Client",
    "EnqueueHook",
    "Enqueued",
    "FatalError",
    "Job",
    "JobContext",
    "JobError",
    "JobFailed",
    "JobNotFound",
    "JobOptions",
    "LeaseLost",
    "Leased",
    "NewJob",
    "NoServer",
    "Progress",
    "Queue",
    "Reported",
    "RetryPolicy",
    "RetryableError",
    "Unique",
    "UserError",
    "Worker",
    "WorkmillError",
]
