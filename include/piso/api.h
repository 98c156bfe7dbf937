/* api.h - the basis of every public header: visibility, the opaque types, errors. */
#ifndef PISO_API_H
#define PISO_API_H

#ifdef __cplusplus
extern "C" {
#endif

#define PISO_API __attribute__((visibility("default")))

/* ---- opaque types ------------------------------------------------------------------------------- */

typedef struct piso_process piso_process; /* process.h */
typedef struct piso_segment piso_segment; /* segment.h */
typedef struct piso_session piso_session; /* session.h */
typedef struct piso_zygote piso_zygote;   /* zygote.h */

/* ---- structs that grow --------------------------------------------------------------------------- */

/* A struct that begins with `size` may get more fields at its end in later versions. Its owner sets `size` to
 * sizeof the struct before it passes the struct to any function. The library then knows how large the struct
 * is, and neither reads nor writes beyond it. Fields that the caller's struct lacks count as 0. A struct with
 * more fields than the library knows is accepted if these are all zero. -EINVAL: `size` was not set, is too
 * small for what the function needs, or an unknown field is set.
 *
 * The other structs never change: piso_call, piso_cuda_memory, piso_exit, piso_item, piso_reader, piso_refusal,
 * piso_span, piso_writer. */

/* ---- errors ------------------------------------------------------------------------------------- */

enum {
    PISO_EPROTO = -4001,   /* the peer sent something malformed; the session has ended */
    PISO_EDIED = -4002,    /* the peer's process has ended */
    PISO_ECLOSED = -4003,  /* this side closed the session */
    PISO_EFORKED = -4004,  /* the object belongs to the process that forked this one */
    PISO_EDEPTH = -4005,   /* values nested deeper than PISO_MAX_DEPTH */
    PISO_ESANDBOX = -4006, /* the process could not be confined as requested, and was not started */
    PISO_EOLDER = -4007,   /* the peer speaks an older version of the wire format: update the peer */
    PISO_ENEWER = -4008,   /* the peer speaks a newer version of the wire format: update this side */
};

/* piso_strerror: returns a short text for a negative code. The text of a PISO_E code is static, others are
 * thread-local. */
PISO_API const char *piso_strerror(int error);

#ifdef __cplusplus
}
#endif

#endif
