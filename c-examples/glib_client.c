/*
 * glib_client: a session in GLib's main loop (and so in GTK's). The descriptor of rsp_socket is one of the kernel, a source like any
 * other; the session stays on it when its server dies.
 *
 *     glib_client [POOL] [QUESTIONS]
 */
#define _DEFAULT_SOURCE
#include <asap.h>
#include <errno.h>
#include <glib-unix.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *pool = "EchoPool";
static int questions = 10, answered, failed;
static char question[32];
static GMainLoop *loop;

/* After a failed rsp_* call: the sentence says what failed, what was tried, what to do. */
static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, asap_last_error());
    failed = 1;
    g_main_loop_quit(loop);
}

static gboolean ask(gpointer session) {
    snprintf(question, sizeof(question), "question %d", answered + 1);
    if (rsp_sendmsg(GPOINTER_TO_INT(session), question, strlen(question), 0, 0, 0, 0, 0, 0, 0) < 0) {
        fail("rsp_sendmsg");
    }
    return G_SOURCE_REMOVE;
}

static gboolean readable(gint sd, GIOCondition condition, gpointer user) {
    union {
        char bytes[256];
        union rserpool_notification notification;
    } in;
    int flags = 0;
    ssize_t got = rsp_recvmsg(sd, &in, sizeof(in), NULL, &flags, 0); /* never waits */
    (void)condition;
    (void)user;
    if (got < 0 && errno == EAGAIN) {
        return G_SOURCE_CONTINUE; /* readable means "look", not "there is something" */
    }
    if (got <= 0) {
        fail("rsp_recvmsg");
        return G_SOURCE_REMOVE;
    }
    if (flags & MSG_RSERPOOL_NOTIFICATION) {
        if (in.notification.rn_header.rn_type == RSERPOOL_FAILOVER &&
            in.notification.rn_failover.rf_state == RSERPOOL_FAILOVER_COMPLETE) {
            printf("at another server\n");
            fflush(stdout);
            if (answered < questions) { /* what had no answer is asked again */
                ask(GINT_TO_POINTER(sd));
            }
        }
        return G_SOURCE_CONTINUE;
    }
    if ((size_t)got != strlen(question) || memcmp(in.bytes, question, (size_t)got) != 0) {
        return G_SOURCE_CONTINUE; /* a second answer to something asked twice */
    }
    printf("answer to %s\n", question);
    fflush(stdout);
    question[0] = '\0';
    if (++answered == questions) {
        g_main_loop_quit(loop);
    } else {
        g_timeout_add(20, ask, GINT_TO_POINTER(sd));
    }
    return G_SOURCE_CONTINUE;
}

int main(int argc, char **argv) {
    int on = 1, sd;
    if (argc > 1) {
        pool = argv[1];
    }
    if (argc > 2) {
        questions = atoi(argv[2]);
    }
    loop = g_main_loop_new(NULL, FALSE);
    if (rsp_initialize(NULL) < 0 || (sd = rsp_socket(0, SOCK_SEQPACKET, 0)) < 0 ||
        rsp_setsockopt(sd, SOL_RSERPOOL, RSP_AUTO_FAILOVER, &on, sizeof(on)) < 0 ||
        rsp_connect(sd, (const unsigned char *)pool, strlen(pool), 0) < 0) {
        fprintf(stderr, "%s\n", asap_last_error());
        return 1;
    }
    guint source = g_unix_fd_add(sd, G_IO_IN, readable, NULL);
    ask(GINT_TO_POINTER(sd));
    if (!failed) {
        g_main_loop_run(loop);
    }
    if (!failed) {
        g_source_remove(source); /* before the descriptor is closed, as always in GLib */
    }
    rsp_close(sd);
    rsp_cleanup();
    g_main_loop_unref(loop);
    return failed;
}
