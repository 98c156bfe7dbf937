/* gpu.h - the part for tensors of GPUs (cuda/), which a build may leave out (the option `gpu`). All others know it by this
 * table; state->gpu is NULL without it. */
#ifndef BINDING_GPU_H
#define BINDING_GPU_H

#include "converter.h"

#define CORE_UUID_SIZE 16 /* of a device */

struct core_tensor_layout;

struct core_gpu {
    /* encode: a tensor of a GPU. 0 or -1. */
    int (*encode)(core_encoder *e, PyObject *tensor, struct core_tensor_layout *l, int flags);
    /* release: a lease of this codec has ended. The cookie is that of piso_session_lease. */
    void (*release)(void *cookie);
    /* ended: the session has: memory of GPUs that came by it is no longer kept mapped. */
    void (*session_ended)(core_codec *c);
    /* clear: the codec goes: the leases that are left; the session reports no more. */
    void (*clear)(core_codec *c);
    /* synchronize: before an answer without memory of GPUs: waits until the device has written to that which the peer has sent
     * here again. What came once has been waited for when it was dropped, or is held on purpose. */
    void (*synchronize)(core_codec *c);
    /* uuid: of a device by its number: 0 or a negative code. find: the number for a UUID, or a negative code. count: how
     * many devices the driver has here. */
    int (*uuid)(int device, uint8_t ret_uuid[CORE_UUID_SIZE]);
    int (*find)(const uint8_t uuid[CORE_UUID_SIZE]);
    int (*count)(void);
};

#endif
