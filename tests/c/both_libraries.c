/* libasap.so and librsplib.so.3 in one process, with all their names in one scope, in the order of the arguments: each keeps to its own ways. */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct library {
    int (*initialize)(void *);
    int (*unmapsocket)(int);
    int (*socket)(int, int, int);
    int (*forcefailover)(int, unsigned int, unsigned int);
    int (*register_tags)(int, const unsigned char *, size_t, const void *, unsigned int, int, const void *);
    int (*close)(int);
    void (*cleanup)(void);
};

static void find(void *library, const char *name, void *where) {
    void *function = dlsym(library, name);
    memcpy(where, &function, sizeof(function));
}

int main(int argc, char **argv) {
    struct library libraries[2];
    static const unsigned char handle[33];
    int i, faults = 0;

    if (argc != 3) {
        return 2;
    }
    for (i = 0; i < 2; i++) {
        struct library *library = &libraries[i];
        void *loaded = dlopen(argv[i + 1], RTLD_NOW | RTLD_GLOBAL);
        if (!loaded) {
            printf("%s\n", dlerror());
            return 1;
        }
        find(loaded, "rsp_initialize", &library->initialize);
        find(loaded, "rsp_unmapsocket", &library->unmapsocket);
        find(loaded, "rsp_socket", &library->socket);
        find(loaded, "rsp_forcefailover", &library->forcefailover);
        find(loaded, "rsp_register_tags", &library->register_tags);
        find(loaded, "rsp_close", &library->close);
        find(loaded, "rsp_cleanup", &library->cleanup);
        faults += library->initialize(NULL) != 0;
    }
    for (i = 0; i < 2; i++) {
        const struct library *library = &libraries[i], *other = &libraries[1 - i];
        int rsplib = strstr(argv[i + 1], "librsplib") != NULL;
        int sd = library->socket(0, 1 /* SOCK_STREAM */, 132 /* IPPROTO_SCTP */);
        /* Without SCTP only one of them makes a socket then. */
        int made = sd >= 0;
        sd = made ? sd : library->socket(0, 1, 0);
        faults += rsplib && !made;
        /* One function that calls another of the library's. A handle of 33 bytes is too long for RSPLIB's programs. */
        if (rsplib) {
            faults += library->register_tags(sd, handle, sizeof(handle), NULL, 0, 1 /* REGF_DONTWAIT */, NULL) != -1;
        } else {
            faults += library->register_tags(sd, handle, sizeof(handle), NULL, 0, 1, NULL) != 0;
        }
        /* Flags that there are not, in a state in which nothing fails over. */
        faults += library->forcefailover(sd, 0x40, 0) != -1 || errno != (rsplib ? EBADF : EINVAL);
        faults += other->close(sd) != -1; /* nobody's of theirs */
        faults += library->close(sd) != 0;
        faults += (library->unmapsocket(0) == 0) != rsplib;
        printf("%s: %d faults\n", argv[i + 1], faults);
    }
    libraries[0].cleanup();
    libraries[1].cleanup();
    return faults != 0;
}
