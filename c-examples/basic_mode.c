/*
 * basic_mode: the pool only tells where the servers are; sockets and failover are the program's
 * own. The client works with any TCP echo server that is registered (say, by asapctl register).
 *
 *     basic_mode [-registrar=ADDRESS:PORT] server POOL    a plain TCP echo server in the pool
 *     basic_mode [-registrar=ADDRESS:PORT] client POOL    tries one after the other
 */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <asap.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* After a failed rsp_* call: the sentence says what failed, what was tried, what to do. */
static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, asap_last_error());
    return 1;
}

static int server(const unsigned char *pool, size_t length) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) < 0 ||
        listen(listener, 16) < 0 || getsockname(listener, (struct sockaddr *)&address, &size) < 0) {
        perror("basic_mode");
        return 1;
    }
    struct rsp_addrinfo self = {.ai_family = AF_INET,
                                .ai_socktype = SOCK_STREAM,
                                .ai_protocol = IPPROTO_TCP,
                                .ai_addrlen = size,
                                .ai_addrs = 1,
                                .ai_addr = (struct sockaddr *)&address};
    struct rsp_loadinfo load = {.rli_policy = PPT_ROUNDROBIN};
    /* For an hour; a server that lives longer calls this again before it is over. */
    if (rsp_pe_registration(pool, length, &self, &load, 3600 * 1000, 0) != 0) {
        return fail("rsp_pe_registration");
    }
    printf("element 0x%08x at port %u\n", (unsigned)self.ai_pe_id, ntohs(address.sin_port));
    fflush(stdout);
    for (;;) { /* one client at a time */
        char buffer[4096];
        ssize_t got;
        int client = accept(listener, NULL, NULL);
        if (client < 0) {
            if (errno == EINTR || errno == ECONNABORTED) {
                continue;
            }
            perror("accept");
            return 1;
        }
        while ((got = read(client, buffer, sizeof(buffer))) > 0) {
            if (send(client, buffer, (size_t)got, MSG_NOSIGNAL) != got) {
                break;
            }
        }
        close(client);
    }
}

/* Asks one server; 0 if it answered. */
static int ask(const struct rsp_addrinfo *server) {
    static const char question[] = "are you there?";
    char answer[sizeof(question)];
    size_t have = 0;
    ssize_t got = 1;
    int fd = socket(server->ai_family, server->ai_socktype, server->ai_protocol);
    if (fd >= 0 && connect(fd, server->ai_addr, (socklen_t)server->ai_addrlen) == 0 &&
        send(fd, question, sizeof(question), MSG_NOSIGNAL) == (ssize_t)sizeof(question)) {
        while (have < sizeof(answer) &&
               (got = read(fd, answer + have, sizeof(answer) - have)) > 0) {
            have += (size_t)got;
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    return have == sizeof(question) && memcmp(question, answer, sizeof(question)) == 0 ? 0 : -1;
}

static int client(const unsigned char *pool, size_t length) {
    struct rsp_addrinfo *servers = NULL;
    int count = rsp_getaddrinfo(pool, length, &servers, RSPGETADDRS_MAX, 0);
    if (count < 0) {
        return fail("rsp_getaddrinfo");
    }
    printf("%d servers\n", count);
    int result = 1;
    for (struct rsp_addrinfo *server = servers; server != NULL && result != 0;
         server = server->ai_next) {
        if (ask(server) == 0) {
            printf("element 0x%08x answered\n", (unsigned)server->ai_pe_id);
            result = 0;
        } else {
            /* The registrar looks for itself and takes it out of the pool if it is dead. */
            printf("element 0x%08x does not answer: reported\n", (unsigned)server->ai_pe_id);
            rsp_pe_failure(pool, length, server->ai_pe_id);
        }
    }
    rsp_freeaddrinfo(servers);
    return result;
}

int main(int argc, char **argv) {
    const char *words[2] = {NULL, NULL};
    int count = 0;
    struct rsp_info info;
    rsp_initinfo(&info);
    for (int i = 1; i < argc; i++) {
        if (!rsp_initarg(&info, argv[i]) && argv[i][0] != '-' && count < 2) {
            words[count++] = argv[i];
        }
    }
    int serve = count == 2 && strcmp(words[0], "server") == 0;
    if (count != 2 || (!serve && strcmp(words[0], "client") != 0)) {
        fprintf(stderr, "usage: basic_mode [-registrar=ADDRESS:PORT] server|client POOL\n%s\n",
                asap_last_error());
        return 2;
    }
    if (rsp_initialize(&info) < 0) {
        return fail("rsp_initialize");
    }
    rsp_freeinfo(&info);
    const unsigned char *pool = (const unsigned char *)words[1];
    size_t length = strlen(words[1]);
    int result = serve ? server(pool, length) : client(pool, length);
    rsp_cleanup();
    return result;
}
