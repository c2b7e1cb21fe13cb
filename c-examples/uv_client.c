/*
 * uv_client: a pool in libuv. asap_open gives a plain descriptor, so it is a stream of the loop's own, which libuv reads, writes
 * and closes. When the server dies the stream ends, as a TCP connection would, and opening it anew reaches another server.
 *
 *     uv_client [NAME] [QUESTIONS]
 */
#define _GNU_SOURCE
#include <asap.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { PAUSE = 20 /* ms between two questions, and before a stream is opened again */ };

static const char *name = "pool://EchoPool";
static int questions = 10, answered;
static uv_pipe_t stream;
static uv_timer_t timer;
static char question[32], answer[256];
static size_t got; /* bytes of the answer that are there */

static void open_stream(uv_timer_t *);

static void closed(uv_handle_t *handle) {
    (void)handle;
    if (answered < questions) {
        uv_timer_start(&timer, open_stream, PAUSE, 0);
    }
}

static void lost(int status) {
    if (!uv_is_closing((uv_handle_t *)&stream)) {
        printf("lost: %s\n", uv_strerror(status));
        fflush(stdout);
        uv_close((uv_handle_t *)&stream, closed);
    }
}

static void written(uv_write_t *request, int status) {
    (void)request;
    if (status < 0) {
        lost(status);
    }
}

static void ask(uv_timer_t *after) {
    static uv_write_t request;
    int length = snprintf(question, sizeof(question), "question %d\n", answered + 1);
    uv_buf_t data = uv_buf_init(question, (unsigned)length);
    (void)after;
    got = 0;
    if (!uv_is_closing((uv_handle_t *)&stream)) {
        uv_write(&request, (uv_stream_t *)&stream, &data, 1, written);
    }
}

static void room(uv_handle_t *handle, size_t wanted, uv_buf_t *buffer) {
    (void)handle;
    (void)wanted;
    *buffer = uv_buf_init(answer + got, (unsigned)(sizeof(answer) - got));
}

static void read_some(uv_stream_t *from, ssize_t length, const uv_buf_t *buffer) {
    (void)from;
    (void)buffer;
    if (length < 0) { /* UV_EOF: a server that ended in order, or a plain one that was killed */
        lost((int)length);
        return;
    }
    got += (size_t)length;
    if (got < strlen(question)) {
        return;
    }
    printf("answer to %.*s", (int)got, answer);
    fflush(stdout);
    if (++answered < questions) {
        uv_timer_start(&timer, ask, PAUSE, 0);
    } else {
        uv_close((uv_handle_t *)&stream, closed);
    }
}

static void open_stream(uv_timer_t *after) {
    int fd = asap_open(name, SOCK_NONBLOCK); /* does not wait; if no server is reached, reading fails */
    (void)after;
    if (fd < 0) {
        fprintf(stderr, "asap_open: %s\n", asap_last_error());
        exit(1);
    }
    uv_pipe_init(uv_default_loop(), &stream, 0);
    if (uv_pipe_open(&stream, fd) < 0 || uv_read_start((uv_stream_t *)&stream, room, read_some) < 0) {
        fprintf(stderr, "libuv cannot read the stream\n");
        exit(1);
    }
    ask(NULL);
}

int main(int argc, char **argv) {
    if (argc > 1) {
        name = argv[1];
    }
    if (argc > 2) {
        questions = atoi(argv[2]);
    }
    signal(SIGPIPE, SIG_IGN); /* as every program with libuv: writing to a stream that is lost fails instead */
    uv_timer_init(uv_default_loop(), &timer);
    open_stream(NULL);
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    return uv_loop_close(uv_default_loop()) == 0 ? 0 : 1;
}
