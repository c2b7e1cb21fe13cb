/*
 * event_server: an ordinary echo server on libevent that is an element of a pool. Its listener stays libevent's; asap_serve says
 * where it is. While its loop does not turn it is in no pool.
 *
 *     event_server [NAME]
 */
#define _DEFAULT_SOURCE
#include <arpa/inet.h>
#include <asap.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static struct event_base *base;
static volatile sig_atomic_t turns; /* of the loop */

static void turn(evutil_socket_t fd, short what, void *user) {
    (void)fd;
    (void)what;
    (void)user;
    turns++;
}

/* Called by a thread of the library's, every two seconds. */
static int health(int fd, struct rsp_loadinfo *load, void *user) {
    static sig_atomic_t before = -1;
    int well = turns != before;
    (void)fd;
    (void)load;
    (void)user;
    before = turns;
    return well ? 0 : -1;
}

static void echo(struct bufferevent *client, void *user) {
    (void)user;
    bufferevent_write_buffer(client, bufferevent_get_input(client));
}

static void gone(struct bufferevent *client, short what, void *user) {
    (void)user;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) {
        bufferevent_free(client);
    }
}

static void accepted(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *from, int size, void *user) {
    struct bufferevent *client =
        bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
    (void)listener;
    (void)from;
    (void)size;
    (void)user;
    if (client != NULL) {
        bufferevent_setcb(client, echo, NULL, gone, NULL);
        bufferevent_enable(client, EV_READ | EV_WRITE);
    }
}

static void stop(evutil_socket_t fd, short what, void *user) {
    (void)fd;
    (void)what;
    (void)user;
    event_base_loopbreak(base);
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "pool://EchoPool";
    struct asap_serve_config config = {
        .asc_size = sizeof(config), .asc_health = health, .asc_health_interval = 2000};
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY)};
    struct timeval second = {.tv_sec = 1, .tv_usec = 0};
    base = event_base_new();
    struct evconnlistener *listener =
        evconnlistener_new_bind(base, accepted, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, -1,
                                (struct sockaddr *)&any, sizeof(any));
    struct event *turning = event_new(base, -1, EV_PERSIST, turn, NULL);
    struct event *ending = evsignal_new(base, SIGTERM, stop, NULL);
    if (listener == NULL || event_add(turning, &second) < 0 || event_add(ending, NULL) < 0) {
        fprintf(stderr, "libevent cannot listen\n");
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    if (asap_serve(evconnlistener_get_fd(listener), name, &config, 0) < 0) {
        fprintf(stderr, "asap_serve: %s\n", asap_last_error());
        return 1;
    }
    printf("serving %s\n", name);
    fflush(stdout);
    event_base_dispatch(base);

    asap_unserve(evconnlistener_get_fd(listener)); /* out of the pool before clients lose their connections */
    return 0;
}
