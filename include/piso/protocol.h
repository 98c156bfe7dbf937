/* protocol.h - names that both sides of PyIsolate know: ids of objects, methods, keys of maps
 * (docs/wire-format.md). The library does not use them. A host or an extension that is not PyIsolate's uses
 * them to talk to one that is. */
#ifndef PISO_PROTOCOL_H
#define PISO_PROTOCOL_H

#include "piso/api.h"

/* ---- objects ------------------------------------------------------------------------------------ */

#define PISO_OBJECT_CONTROL   0u          /* the control object of each side */
#define PISO_OBJECT_EXTENSION 1u          /* of the child: the extension, once `load` has returned */
#define PISO_OBJECT_OFFERED   2u          /* the first of the objects that a side offers by name */
#define PISO_OBJECT_PREFETCH  4294967295u /* no object: new segments that the sender may send later */

/* ---- methods of the control objects -------------------------------------------------------------- */

/* methods of both */
#define PISO_METHOD_RESOLVE        "resolve"
#define PISO_METHOD_RELEASE_MEMORY "release_memory"
#define PISO_METHOD_COPY_FROM_GPUS "copy_from_gpus"
/* methods of the child */
#define PISO_METHOD_LOAD      "load"
#define PISO_METHOD_HAS       "has"
#define PISO_METHOD_ADOPT     "adopt"
#define PISO_METHOD_PING      "ping"
#define PISO_METHOD_SHUT_DOWN "shut_down"
/* methods of the host */
#define PISO_METHOD_EMIT           "emit"
#define PISO_METHOD_LOG            "log"
#define PISO_METHOD_MADE_SINGLETON "made_singleton"

/* ---- keys of EXCEPTION ----------------------------------------------------------------------------- */

#define PISO_EXCEPTION_TYPE       "type" /* required */
#define PISO_EXCEPTION_ARGS       "args"
#define PISO_EXCEPTION_NOTES      "notes"
#define PISO_EXCEPTION_CAUSE      "cause"
#define PISO_EXCEPTION_CONTEXT    "context"
#define PISO_EXCEPTION_SUPPRESS   "suppress"
#define PISO_EXCEPTION_TRACEBACK  "traceback"
#define PISO_EXCEPTION_ATTRIBUTES "attributes"
#define PISO_EXCEPTION_TEXT       "text"

#endif
