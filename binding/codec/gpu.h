/* gpu.h - the interface to cuda/, which converts tensors on GPUs and which a build may omit (the option `gpu`). Other
 * folders use it through this table only; without it state->gpu is NULL. */
#ifndef BINDING_GPU_H
#define BINDING_GPU_H

#include "converter.h"

#define CORE_UUID_SIZE 16 /* bytes of a device's UUID */

struct core_tensor_layout;

struct core_gpu {
    /* encode: encodes a tensor on a GPU. Returns 0 or -1. */
    int (*encode)(core_encoder *e, PyObject *tensor, struct core_tensor_layout *l, int flags);
    /* session_ended: called when the session has ended: unmaps memory of GPUs that arrived through it. */
    void (*session_ended)(core_codec *c);
    /* clear: called when the codec is deallocated: ends the remaining leases, which the session no longer reports. */
    void (*clear)(core_codec *c);
    /* synchronize: called before a reply without memory of GPUs: waits until the device has finished writing to memory
     * that the peer has sent here repeatedly. Memory that was sent once was synchronised when it was released, or this
     * process still holds it intentionally. */
    void (*synchronize)(core_codec *c);
    /* uuid: gets the UUID of the device with this id; returns 0 or a negative code. find: returns the id of the device
     * with a UUID, or a negative code. count: returns the number of devices that the driver lists here. */
    int (*uuid)(int device, uint8_t ret_uuid[CORE_UUID_SIZE]);
    int (*find)(const uint8_t uuid[CORE_UUID_SIZE]);
    int (*count)(void);
};

#endif
