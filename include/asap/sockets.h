/*
 * For programs with sockets that are to reach pools, or to be in one, without being changed: this header, and names.
 * docs/adopting.md is the guide.
 *
 *     #include <asap/sockets.h>            one line, before all others; or for all files: cc -include asap/sockets.h
 *
 * A client reaches a pool where it is told a name for a host: getaddrinfo("pool://EchoPool", ...), or gethostbyname(), then
 * connect() with the address that gives. A server is in a pool where the environment says so: ASAP_POOL=EchoPool, heeded by listen().
 *
 * The calls below become those of asap.h with the same names behind asap_: ordinary sockets get what they always did. socket(),
 * bind(), accept(), read(), write(), send(), recv(), sendmsg(), recvmsg(), poll(), select(), epoll_ctl(), shutdown(), fcntl(), close() and the rest
 * need nothing: descriptors of pools are sockets of the kernel.
 *
 * There are no macros: the compiler is told other names for the linker, of functions with external C linkage only. So members, methods
 * and static functions that are called connect or listen stay what they are, in C and C++, and it does not matter what is included behind.
 *
 * Objects that cannot be compiled again are linked with -Wl,--wrap=NAME for each of the names below, and one more object, of this
 * header with ASAP_WRAP:
 *
 *     echo '#include <asap/sockets.h>' | cc -DASAP_WRAP -x c -c - -o asap-wrap.o
 *     cc legacy.o asap-wrap.o $(pkg-config --variable=wrap libasap) $(pkg-config --libs libasap)
 *
 * Threads, fork: as the functions of asap.h. Since 0.1.
 */
#ifndef ASAP_SOCKETS_H
#define ASAP_SOCKETS_H

#if !defined(__GNUC__)
#error "asap/sockets.h needs a compiler that knows #pragma redefine_extname: GCC or Clang"
#endif

#ifndef ASAP_WRAP

/* g++ renames what is declared later only. */
#if defined(__cplusplus) && !defined(__clang__) && (defined(_SYS_SOCKET_H) || defined(_NETDB_H))
#error "asap/sockets.h comes before <sys/socket.h> and <netdb.h>; or compile with -include asap/sockets.h"
#endif

#pragma redefine_extname getaddrinfo asap_getaddrinfo
#pragma redefine_extname gethostbyname asap_gethostbyname
#pragma redefine_extname connect asap_connect
#pragma redefine_extname listen asap_listen
#pragma redefine_extname getpeername asap_getpeername
#pragma redefine_extname setsockopt asap_setsockopt

#else

#include <asap.h>

int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
    return asap_getaddrinfo(node, service, hints, result);
}

struct hostent *__wrap_gethostbyname(const char *name)
{
    return asap_gethostbyname(name);
}

int __wrap_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    return asap_connect(fd, addr, len);
}

int __wrap_listen(int fd, int backlog)
{
    return asap_listen(fd, backlog);
}

int __wrap_getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
    return asap_getpeername(fd, addr, len);
}

int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
    return asap_setsockopt(fd, level, option, value, length);
}

#endif

#endif
