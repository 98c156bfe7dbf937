/* refusals_child.c - see refusals.h: the child's side. It makes bare system calls and does not use memory of
 * other threads. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "seccomp/refusals.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV /* Linux 5.19 */
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

/* packet: builds a packet of one byte and a descriptor, as piso__send_fds does. */
typedef struct packet {
    char byte;
    struct iovec part;
    struct msghdr message;
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
} packet;

PISO__IN_CHILD static void prepare(packet *p) {
    p->byte = 0;
    p->part = (struct iovec){.iov_base = &p->byte, .iov_len = 1};
    for (size_t i = 0; i < sizeof p->control; i++)
        ((volatile char *)&p->control)[i] = 0;
    p->message = (struct msghdr){
        .msg_iov = &p->part, .msg_iovlen = 1, .msg_control = &p->control, .msg_controllen = sizeof p->control};
}

PISO__IN_CHILD int piso__refusals_take_ruleset(int fd) {
    packet p;
    prepare(&p);
    long n = syscall(SYS_recvmsg, fd, &p.message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return -errno;
    const struct cmsghdr *c = &p.control.header;
    if (p.message.msg_controllen < CMSG_LEN(sizeof(int)) || c->cmsg_type != SCM_RIGHTS)
        return -EPROTO;
    return *(const int *)CMSG_DATA(c);
}

/* send_listener: sends the listener. If nobody takes it, calls are refused all the same. */
PISO__IN_CHILD static void send_listener(int fd, int listener) {
    packet p;
    prepare(&p);
    p.control.header =
        (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    *(int *)CMSG_DATA(&p.control.header) = listener;
    syscall(SYS_sendmsg, fd, &p.message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* load: loads the filter and returns a listener, or -errno. */
PISO__IN_CHILD static int load(const struct sock_fprog *program, unsigned long flags) {
    long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, program);
    return r < 0 ? -errno : (int)r;
}

/* refuse_here: changes the program to refuse with errors instead of asking. */
PISO__IN_CHILD static void refuse_here(struct sock_filter *program, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if (program[i].code == (BPF_RET | BPF_K) && (program[i].k & SECCOMP_RET_ACTION) == SECCOMP_RET_USER_NOTIF)
            program[i].k = SECCOMP_RET_ERRNO | (program[i].k & SECCOMP_RET_DATA);
}

PISO__IN_CHILD int piso__refusals_load(int fd, struct sock_filter *program, uint32_t count) {
    const struct sock_fprog all = {.len = (unsigned short)count, .filter = program};
    int listener = -ENOSYS;
    if (fd >= 0) {
        listener = load(&all, SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
        if (listener == -EINVAL)
            listener = load(&all, SECCOMP_FILTER_FLAG_NEW_LISTENER);
    }
    if (listener < 0) {
        refuse_here(program, count);
        return load(&all, 0);
    }
    send_listener(fd, listener);
    syscall(SYS_close, listener);
    return 0;
}
