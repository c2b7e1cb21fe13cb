/* Registrars hosted by a C program: set-up, addresses, refusals, many at once, forked children. */
#define _POSIX_C_SOURCE 200809L
#include <asap.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                                               \
    do {                                                                                               \
        if (!(condition)) {                                                                            \
            fprintf(stderr, "line %d: %s; errno %d, %s\n", __LINE__, #condition, errno,                \
                    asap_last_error());                                                                \
            exit(1);                                                                                   \
        }                                                                                              \
    } while (0)

static struct asap_registrar_config any(void) {
    struct asap_registrar_config config = {
        .arc_size = sizeof(config), .arc_asap = "127.0.0.1:0", .arc_enrp = "127.0.0.1:0", .arc_announce = "off"};
    return config;
}

static void refused(struct asap_registrar_config config, int error, const char *word) {
    errno = 0;
    CHECK(asap_registrar_start(&config) == NULL);
    CHECK(errno == error);
    CHECK(strstr(asap_last_error(), word) != NULL);
}

int main(int argc, char **argv) {
    const char *folder = argc > 1 ? argv[1] : "/tmp";
    char asap[64], enrp[64], other[64], path[256];
    struct asap_registrar_config config = any();
    struct asap_registrar *one = asap_registrar_start(&config);
    CHECK(one != NULL);
    int length = asap_registrar_address(one, ASAP_REGISTRAR_ASAP, asap, sizeof(asap));
    CHECK(length == (int)strlen(asap) && strncmp(asap, "127.0.0.1:", 10) == 0 && atoi(asap + 10) > 0);
    CHECK(asap_registrar_address(one, ASAP_REGISTRAR_ENRP, enrp, sizeof(enrp)) > 0 && strcmp(asap, enrp) != 0);
    CHECK(asap_registrar_address(one, ASAP_REGISTRAR_ASAP, NULL, 0) == length);
    CHECK(asap_registrar_address(one, ASAP_REGISTRAR_ASAP, other, 5) == length && strcmp(other, "127.") == 0);
    errno = 0;
    CHECK(asap_registrar_address(one, 3, other, sizeof(other)) == -1 && errno == EINVAL);
    errno = 0;
    CHECK(asap_registrar_address(NULL, ASAP_REGISTRAR_ASAP, other, sizeof(other)) == -1 && errno == EFAULT);
    asap_registrar_stop(NULL);

    /* What is wrong is said. */
    config = any();
    config.arc_asap = asap;
    refused(config, EADDRINUSE, asap);
    config.arc_asap = "192.0.2.1:1";
    refused(config, EADDRNOTAVAIL, "192.0.2.1");
    config.arc_asap = "localhost:1";
    refused(config, EINVAL, "arc_asap");
    config = any();
    config.arc_profile = "quick";
    refused(config, EINVAL, "lan, wan nor rfc");
    config = any();
    config.arc_dialect = "C";
    refused(config, EINVAL, "auto, rfc nor rsplib");
    config.arc_dialect = "rsplib";
    config.arc_announce = "10.0.0.1:5";
    refused(config, EINVAL, "arc_announce");
    config = any();
    config.arc_flags = 64;
    refused(config, EINVAL, "arc_flags");
    config = any();
    config.arc_peers = "no such host";
    refused(config, EINVAL, "arc_peers");
    config = any();
    config.arc_admin = "/nowhere/admin.sock";
    refused(config, ENOENT, "/nowhere/admin.sock");
    config = any();
    config.arc_size = 3;
    refused(config, EINVAL, "arc_size");

    /* An older program's structure, and a newer one's, without and with something unknown in it. */
    struct {
        struct asap_registrar_config known;
        long later;
    } newer = {.known = any()};
    newer.known.arc_size = sizeof(newer);
    struct asap_registrar *two = asap_registrar_start(&newer.known);
    CHECK(two != NULL);
    asap_registrar_stop(two);
    newer.later = 1;
    errno = 0;
    CHECK(asap_registrar_start(&newer.known) == NULL && errno == EINVAL);
    CHECK(strstr(asap_last_error(), "older than the header") != NULL);
    config = any();
    config.arc_size = offsetof(struct asap_registrar_config, arc_announce);
    config.arc_announce = "not looked at";
    two = asap_registrar_start(&config);
    CHECK(two != NULL);
    asap_registrar_stop(two);

    /* As programs were compiled before it had arc_dialect. */
    config = any();
    config.arc_size = offsetof(struct asap_registrar_config, arc_dialect);
    config.arc_dialect = "not looked at";
    two = asap_registrar_start(&config);
    CHECK(two != NULL);
    asap_registrar_stop(two);

    /* Two beside each other, one of which can be looked at; sockets at the first. */
    config = any();
    config.arc_dialect = "rfc";
    config.arc_peers = enrp;
    config.arc_id = 0x1234;
    snprintf(path, sizeof(path), "%s/hosted.sock", folder);
    config.arc_admin = path;
    two = asap_registrar_start(&config);
    CHECK(two != NULL && access(path, F_OK) == 0);
    char word[96];
    snprintf(word, sizeof(word), "-registrar=%s", asap);
    struct rsp_info info;
    rsp_initinfo(&info);
    CHECK(rsp_initarg(&info, word) == 1 && rsp_initialize(&info) == 0);
    rsp_freeinfo(&info);
    struct rsp_loadinfo load = {.rli_policy = PPT_ROUNDROBIN};
    int sd = rsp_socket(0, SOCK_SEQPACKET, 0);
    CHECK(sd >= 0 && rsp_register(sd, (const unsigned char *)"Hosted", 6, &load, 0, 0) == 0);

    /* A child has no part in them; it may outlive them, and host one of its own on the same ports. */
    int go[2], done[2];
    CHECK(pipe(go) == 0 && pipe(done) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char byte;
        CHECK(asap_registrar_address(one, ASAP_REGISTRAR_ASAP, other, sizeof(other)) == length);
        asap_registrar_stop(one);
        asap_registrar_stop(two);
        CHECK(access(path, F_OK) == 0);
        CHECK(write(done[1], "x", 1) == 1 && read(go[0], &byte, 1) == 1);
        config = any();
        config.arc_asap = asap;
        struct asap_registrar *own = asap_registrar_start(&config);
        CHECK(own != NULL);
        asap_registrar_stop(own);
        _exit(0);
    }
    CHECK(rsp_deregister(sd, 0) == 0);
    CHECK(rsp_register(sd, (const unsigned char *)"Hosted", 6, &load, 0, 0) == 0);
    rsp_cleanup();
    char byte;
    CHECK(read(done[0], &byte, 1) == 1);
    asap_registrar_stop(two);
    CHECK(access(path, F_OK) != 0);
    asap_registrar_stop(one);
    int status;
    CHECK(write(go[1], "x", 1) == 1);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);

    /* And many. */
    struct asap_registrar *all[8];
    for (int i = 0; i < 8; i++) {
        config = any();
        CHECK((all[i] = asap_registrar_start(&config)) != NULL);
    }
    for (int i = 0; i < 8; i++) {
        asap_registrar_stop(all[i]);
    }
    puts("done");
    return 0;
}
