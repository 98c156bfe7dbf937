/* piso.h - the public C interface of PyIsolate's core. This header includes all of its parts.
 *
 * A session connects two processes: the host, which creates everything, and an extension, which is not trusted.
 * Each side may call the other, with any number of calls in flight. Messages are sent through two rings in
 * shared memory; while both sides are awake no system call is made. Payloads over a few KiB are sent in an
 * arena of shared buffers, which spans refer to. Values are MessagePack (docs/wire-format.md).
 *
 * Nothing here depends on Python. Unless a comment says otherwise a function may be called from any thread,
 * does not block, returns 0 or a count on success and a negative code on failure (-errno, or one of PISO_E...),
 * and leaves its ret_ outputs untouched on failure. Destructors accept NULL and return NULL. */
#ifndef PISO_H
#define PISO_H

#include "piso/api.h"
#include "piso/blocking.h"
#include "piso/buffer.h"
#include "piso/call.h"
#include "piso/event.h"
#include "piso/gpu.h"
#include "piso/lease.h"
#include "piso/output.h"
#include "piso/process.h"
#include "piso/protocol.h"
#include "piso/reference.h"
#include "piso/sandbox.h"
#include "piso/segment.h"
#include "piso/session.h"
#include "piso/values.h"
#include "piso/version.h"
#include "piso/wait.h"
#include "piso/zygote.h"

#endif
