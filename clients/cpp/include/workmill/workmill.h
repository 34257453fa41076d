#pragma once
// All of the client but for workmill/embedded.h.
#include "workmill/async_batches.h"
#include "workmill/async_cache.h"
#include "workmill/async_client.h"
#include "workmill/batches.h"
#include "workmill/cache.h"
#include "workmill/client.h"
#include "workmill/error.h"
#include "workmill/jobs.h"
#include "workmill/json.h"
#include "workmill/options.h"
#include "workmill/task.h"
#include "workmill/worker.h"
